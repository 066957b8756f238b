#pragma once
/// GOLD, the attention of GoldFinch (Goldstein et al. 2024, arXiv:2407.12077). Its cache is hundreds of times smaller than
/// one of keys and values: a token takes its id and C/16 numbers, for all attention layers together.
///
/// For every cached token s, with e = LayerNorm_ln0(embedding of its id), c the compressed key, and zeros before the first:
///
///   kd_s = rms(W_b concat(e_s, c_s))     eh_s = rms(e_s)     rms(x) = x / (sqrt(|x|^2 / C) + 1e-8)
///   (m_k, m_v) = tanh((eh_s + (eh_{s-1} - eh_s) maa_v_cache) maa_kv_w1), in two slices, times maa_kv_w2
///   k = kd_s + (kd_{s-1} - kd_s) (maa_k + m_k)      k_s = LayerNorm_k(k + tanh(k key_w1) key_w2)
///   v = eh_s + (eh_{s-1} - eh_s) (maa_v + m_v)      v_s = LayerNorm_v(v + tanh(v value_w1) value_w2)
///
/// For every input x_t of the layer:
///
///   m_q = tanh((x_t + (x_{t-1} - x_t) maa_x) maa_q_w1) maa_q_w2
///   q_t = LayerNorm_q(W_q (x_t + (x_{t-1} - x_t) (maa_q + m_q)))
///   y_t = W_o LayerNorm_x(softmax attention of q_t to k_s and v_s, s = 0 ... t, per head, with scale 1/sqrt(N))
///
/// with an optional rotary embedding of q and k before the attention. The last query is at the last token of the cache, so
/// that a prompt, a continuation by several tokens and single tokens give the same bits. (The published code aligns several
/// queries with the first token, and is right only for a whole prompt.)
///
/// A layer rebuilds keys and values in blocks of 128 tokens, reads them, and drops them. Memory is O(128 C) beside the
/// cache, however long it is. A token costs about C (C + R + 4 D + 4 L) multiply-adds, with R = C/16 and ranks D, L. Those
/// who have the memory keep keys and values in a KeyValueCache for each layer, with the same bits.
///
///   TokenCat<float> token_cat(embedding, ln0, {.compress = w_a, .expand = w_b});          shared by all layers
///   auto cache = token_cat.empty_cache<bf16>();
///   Gold<float> gold({...});                                                              or Block<Gold<float>>
///   auto state = gold.empty_state();
///   Scratch<float> scratch(64 * gold.scratch_size()), workspace(gold.workspace_size(token_cat));
///
///   token_cat.append(ids, hidden, cache, scratch);               what the recurrent layers have made of these tokens
///   gold(x, state, y, scratch, GoldContext(token_cat, cache, x.rows(), workspace));
///
/// Gradients go the same way, block by block (layers/gold_backward.hpp): the memory that they take beside the gradients that
/// a caller wants does not grow with the cache, either.
///
///   using Backward = GoldBackward<float>;
///   Scratch<float> scratch(256 * Backward::scratch_size(gold)), workspace(Backward::workspace_size(gold, token_cat));
///   Backward::run(gold, {.weights = weights, .expand = w_b, .x = x, .state = before, .dy = dy, .dx = dx, .dstate = dstate,
///                        .de = de, .dc = dc, .dweights = {...}, .dexpand = dw_b},
///                 scratch, GoldContext(token_cat, cache, x.rows(), workspace));
///
/// This header has the memory: the token cache, and attention over blocks of keys and values with its gradients. The layer
/// around it is in layers/gold.hpp, and io/token_cache_file.hpp keeps caches in files.
#include "aviary/cache/attention.hpp"
#include "aviary/cache/attention_backward.hpp"
#include "aviary/cache/token_cache.hpp"
