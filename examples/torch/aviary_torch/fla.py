"""The functions of flash-linear-attention (fla.ops) over the operators of aviary, under the same names and signatures.

What all of them have in common, unless a function says otherwise:

    q, k           (B, T, H, K)
    v              (B, T, HV, V), HV a multiple of H; of gates and rates with HV heads the same is true
    g, gk, w       logarithms of decays, <= 0
    scale          what q is multiplied with; None: K ** -0.5
    initial_state  (N, HV, K, V), or (N, HV, V, K) with state_v_first; None: zeros
    cu_seqlens     (N + 1) positions of N packed sequences, with B = 1; None: N = B sequences of T tokens
    returns        o (B, T, HV, V) of v's type; the final state as initial_state, or None without output_final_state

States are of float32, or of float64 where v is; inputs may be of float32 everywhere. `chunk_...`, `fused_chunk_...`
and `fused_recurrent_...` of a model are one computation here, token by token, and all have gradients. What only tunes
a GPU's kernels is taken and has no effect: cu_seqlens_cpu, chunk_size, chunk_indices, safe_gate, disable_recompute,
and lower_bound where it is a promise. Whatever else an argument asks for is refused: reverse, gv, cp_context,
return_intermediate_states, and head_first, which fla itself has removed.
"""
import torch
import torch.nn.functional as F

from . import recurrence

_HAS_NO_EFFECT = {"chunk_size", "cu_seqlens_cpu", "chunk_indices", "safe_gate", "disable_recompute"}


def _refuse(**arguments):
    for name, value in arguments.items():
        if name not in _HAS_NO_EFFECT and value is not None and value is not False:
            raise NotImplementedError(f"aviary_torch.fla: the argument {name} is not supported")


def _wide(x):
    """x with the digits of float32 at least."""
    return x if x.dtype == torch.float64 else x.float()


def _scaled(q, scale):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return q if scale == 1 else _wide(q) * scale


def _unit(x):
    x = _wide(x)
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def _unit_if(wanted, *x):
    return tuple(map(_unit, x)) if wanted else x


def _gate(g, a_log, dt_bias, lower_bound=None):
    """The decay from what a layer computes: -exp(A_log) softplus(g + dt_bias), or within a lower bound. g has an axis
    of heads, as A_log, and perhaps one of keys behind it."""
    per_head = g.shape[2:]
    g = _wide(g) if dt_bias is None else _wide(g) + dt_bias.view(per_head)
    if a_log is None:
        if lower_bound is None:
            raise ValueError("aviary_torch.fla: use_gate_in_kernel needs A_log or lower_bound")
        return lower_bound * torch.sigmoid(g)
    slope = _wide(a_log).exp().view(-1, *[1] * (len(per_head) - 1))
    return -slope * F.softplus(g) if lower_bound is None else lower_bound * torch.sigmoid(slope * g)


def _rate(beta, use_sigmoid, allow_neg_eigval):
    if allow_neg_eigval and not use_sigmoid:
        raise ValueError("aviary_torch.fla: allow_neg_eigval=True requires use_beta_sigmoid_in_kernel=True")
    return torch.sigmoid(_wide(beta)) * (2 if allow_neg_eigval else 1) if use_sigmoid else beta


def _ones(like, heads):
    return torch.ones(*like.shape[:2], heads, dtype=torch.float32, device=like.device)


def _run(rule, scale, initial_state, output_final_state, cu_seqlens, state_v_first=False, **x):
    read = "r" if "r" in x else "q"
    x[read] = _scaled(x[read], scale)
    if initial_state is not None:
        initial_state = initial_state.to(torch.float64 if x["v"].dtype == torch.float64 else torch.float32)
        if state_v_first:
            initial_state = initial_state.transpose(-1, -2)
    o, state = recurrence(rule, initial_state=initial_state, cu_seqlens=cu_seqlens, **x)
    if not output_final_state:
        return o, None
    return o, state.transpose(-1, -2).contiguous() if state_v_first else state


# RWKV


def fused_recurrent_rwkv4(w, u, k, v, state):
    """k, v (B, T, C); w (C), the decay is exp(-exp(w)); u (C); state (B, 3, 1, C): (alpha, beta, eps). Returns y and
    the state after the tokens."""
    o, state = recurrence("wkv4", log_w=-_wide(w).exp(), k=k, v=v, u=u, initial_state=state.squeeze(2).to(
        torch.float64 if v.dtype == torch.float64 else torch.float32))
    return o, state.unsqueeze(2)


def chunk_rwkv6(r, k, v, w, u, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None,
                cu_seqlens_cpu=None, **kwargs):
    """u (H, K), the bonus of the current token."""
    _refuse(**kwargs)
    return _run("wkv6", scale, initial_state, output_final_state, cu_seqlens, r=r, log_w=w, k=k, v=v, u=u)


def fused_recurrent_rwkv6(r, k, v, w, u, scale=None, initial_state=None, output_final_state=False, reverse=False,
                          cu_seqlens=None, **kwargs):
    return chunk_rwkv6(r, k, v, w, u, scale, initial_state, output_final_state, cu_seqlens, reverse=reverse, **kwargs)


def chunk_rwkv7(r, w, k, v, a, b, scale=1.0, initial_state=None, output_final_state=False, cu_seqlens=None,
                cu_seqlens_cpu=None, safe_gate=False, chunk_size=None, disable_recompute=False, cp_context=None,
                lower_bound=None, **kwargs):
    """a = -kappa_hat, b = kappa_hat * rate, (B, T, H, K) each. The scale is 1 unless given."""
    _refuse(cp_context=cp_context, **kwargs)
    return chunk_dplr_delta_rule(r, k, v, a, b, w, scale, initial_state, output_final_state, cu_seqlens)


def fused_recurrent_rwkv7(r, w, k, v, a, b, scale=None, initial_state=None, output_final_state=True, cu_seqlens=None,
                          **kwargs):
    """As chunk_rwkv7, but that here the scale is K ** -0.5 unless given, and the final state is given."""
    _refuse(**kwargs)
    return chunk_dplr_delta_rule(r, k, v, a, b, w, scale, initial_state, output_final_state, cu_seqlens)


def fused_mul_recurrent_rwkv7(r, w, k, v, kk, a, scale=1.0, initial_state=None, output_final_state=False, reverse=False,
                              cu_seqlens=None, **kwargs):
    """kk is kappa_hat, of unit length, and a the rate in (0, 1), (B, T, H, K) each. The scale is 1 unless given."""
    _refuse(reverse=reverse, **kwargs)
    return _run("wkv7", scale, initial_state, output_final_state, cu_seqlens, r=r, log_w=w, k=k, v=v, kappa_hat=kk, a=a)


# Linear attention and its gated kin


def chunk_linear_attn(q, k, v, scale=None, initial_state=None, output_final_state=False, normalize=True,
                      cu_seqlens=None):
    """With normalize o is divided by q . z, z the sum of the keys so far, and states are (state, z), z (N, 1, H, K)."""
    z0 = None
    if normalize and isinstance(initial_state, tuple):
        initial_state, z0 = initial_state
    q, scale = _scaled(q, scale), 1
    o, state = _run("linear_attention", scale, initial_state, output_final_state, cu_seqlens, q=q, k=k, v=v)
    if not normalize:
        return o, state
    # q . z is what the memory reads of values that are all 1
    weights, z = _run("linear_attention", scale, None if z0 is None else z0.permute(0, 2, 3, 1), True, cu_seqlens, q=q,
                      k=k, v=_ones(v, q.shape[2]).to(_wide(v).dtype).unsqueeze(-1))
    weights = weights.repeat_interleave(v.shape[2] // q.shape[2], 2) + 1e-10
    return (o / weights).to(v.dtype), (state, z.permute(0, 3, 1, 2)) if output_final_state else None


fused_chunk_linear_attn = chunk_linear_attn


def fused_recurrent_linear_attn(q, k, v, scale=None, initial_state=None, output_final_state=False, reverse=False,
                                normalize=False, cu_seqlens=None):
    """As chunk_linear_attn, without normalize unless it is asked for."""
    _refuse(reverse=reverse)
    return chunk_linear_attn(q, k, v, scale, initial_state, output_final_state, normalize, cu_seqlens)


def chunk_simple_gla(q, k, v, g=None, g_gamma=None, scale=None, initial_state=None, output_final_state=False,
                     state_v_first=False, cu_seqlens=None, cu_seqlens_cpu=None, **kwargs):
    """g (B, T, H), the decay of a head and token, or g_gamma (H), that of a head for all time; neither: no decay."""
    _refuse(**kwargs)
    if g is not None and g_gamma is not None:
        raise ValueError("aviary_torch.fla: expected g or g_gamma, found both")
    rule, decay = ("simple_gla", {"log_w": g}) if g is not None else (
        ("retnet", {"log_w": g_gamma}) if g_gamma is not None else ("linear_attention", {}))
    return _run(rule, scale, initial_state, output_final_state, cu_seqlens, state_v_first, q=q, k=k, v=v, **decay)


def fused_chunk_simple_gla(q, k, v, g=None, g_gamma=None, scale=None, initial_state=None, output_final_state=False,
                           cu_seqlens=None):
    return chunk_simple_gla(q, k, v, g, g_gamma, scale, initial_state, output_final_state, cu_seqlens=cu_seqlens)


def fused_recurrent_simple_gla(q, k, v, g=None, g_gamma=None, scale=None, initial_state=None, output_final_state=False,
                               reverse=False, state_v_first=False, cu_seqlens=None, **kwargs):
    return chunk_simple_gla(q, k, v, g, g_gamma, scale, initial_state, output_final_state, state_v_first, cu_seqlens,
                            reverse=reverse, **kwargs)


def chunk_retention(q, k, v, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None, **kwargs):
    """The decay of head h is 1 - 2 ** (-5 - h)."""
    heads = torch.arange(q.shape[2], dtype=torch.float64, device=q.device)
    return chunk_simple_gla(q, k, v, None, torch.log1p(-torch.exp2(-5 - heads)), scale, initial_state,
                            output_final_state, cu_seqlens=cu_seqlens, **kwargs)


fused_chunk_retention = chunk_retention


def fused_recurrent_retention(q, k, v, scale=None, initial_state=None, output_final_state=False, reverse=False,
                              state_v_first=False, cu_seqlens=None, **kwargs):
    """As chunk_retention."""
    return chunk_retention(q, k, v, scale, initial_state, output_final_state, cu_seqlens, reverse=reverse,
                           state_v_first=state_v_first, **kwargs)


def chunk_gla(q, k, v, g, scale=None, initial_state=None, output_final_state=False, state_v_first=False,
              cu_seqlens=None, cu_seqlens_cpu=None):
    """g (B, T, H, K)."""
    return _run("gla", scale, initial_state, output_final_state, cu_seqlens, state_v_first, q=q, k=k, v=v, log_w=g)


def fused_recurrent_gla(q, k, v, gk=None, gv=None, scale=None, initial_state=None, output_final_state=False,
                        reverse=False, state_v_first=False, cu_seqlens=None, **kwargs):
    """gk (B, T, H, K); None: no decay."""
    _refuse(gv=gv, reverse=reverse, **kwargs)
    if gk is None:
        return chunk_simple_gla(q, k, v, None, None, scale, initial_state, output_final_state, state_v_first,
                                cu_seqlens)
    return chunk_gla(q, k, v, gk, scale, initial_state, output_final_state, state_v_first, cu_seqlens)


# The delta rule and its kin


def chunk_delta_rule(q, k, v, beta, scale=None, initial_state=None, output_final_state=False,
                     use_qk_l2norm_in_kernel=False, cu_seqlens=None, cu_seqlens_cpu=None, **kwargs):
    """beta (B, T, H); keys are of unit length, or made so by use_qk_l2norm_in_kernel."""
    _refuse(**kwargs)
    q, k = _unit_if(use_qk_l2norm_in_kernel, q, k)
    return _run("delta_net", scale, initial_state, output_final_state, cu_seqlens, q=q, k=k, v=v, beta=beta)


def fused_recurrent_delta_rule(q, k, v, beta=None, scale=None, initial_state=None, output_final_state=False,
                               use_qk_l2norm_in_kernel=False, cu_seqlens=None):
    """As chunk_delta_rule; beta None: 1."""
    beta = _ones(q, q.shape[2]) if beta is None else beta
    return chunk_delta_rule(q, k, v, beta, scale, initial_state, output_final_state, use_qk_l2norm_in_kernel,
                            cu_seqlens)


def chunk_gated_delta_rule(q, k, v, g, beta, scale=None, initial_state=None, output_final_state=False,
                           use_qk_l2norm_in_kernel=False, use_beta_sigmoid_in_kernel=False, allow_neg_eigval=False,
                           state_v_first=False, cu_seqlens=None, cu_seqlens_cpu=None, chunk_indices=None,
                           cp_context=None, *, use_gate_in_kernel=False, A_log=None, dt_bias=None, **kwargs):
    """g, beta (B, T, HV). With use_gate_in_kernel g is what -exp(A_log) softplus(g + dt_bias) makes a decay of."""
    _refuse(cp_context=cp_context, **kwargs)
    q, k = _unit_if(use_qk_l2norm_in_kernel, q, k)
    return _run("gated_delta_net", scale, initial_state, output_final_state, cu_seqlens, state_v_first, q=q, k=k, v=v,
                log_w=_gate(g, A_log, dt_bias) if use_gate_in_kernel else g,
                beta=_rate(beta, use_beta_sigmoid_in_kernel, allow_neg_eigval))


def fused_recurrent_gated_delta_rule(q, k, v, g=None, gk=None, gv=None, beta=None, scale=None, initial_state=None,
                                     output_final_state=False, use_qk_l2norm_in_kernel=False,
                                     use_gate_in_kernel=False, A_log=None, dt_bias=None,
                                     use_beta_sigmoid_in_kernel=False, allow_neg_eigval=False, state_v_first=False,
                                     cu_seqlens=None, **kwargs):
    """As chunk_gated_delta_rule; gk (B, T, HV, K) in place of g, or neither: no decay. beta None: 1."""
    _refuse(gv=gv, **kwargs)
    beta = _ones(q, v.shape[2]) if beta is None else beta
    if gk is not None:
        _refuse(g=g, use_gate_in_kernel=use_gate_in_kernel)
        return fused_recurrent_kda(q, k, v, gk, beta, None, None, scale, initial_state, output_final_state,
                                   use_qk_l2norm_in_kernel, False, use_beta_sigmoid_in_kernel, allow_neg_eigval, None,
                                   state_v_first, cu_seqlens)
    g = torch.zeros_like(beta) if g is None else g
    return chunk_gated_delta_rule(q, k, v, g, beta, scale, initial_state, output_final_state, use_qk_l2norm_in_kernel,
                                  use_beta_sigmoid_in_kernel, allow_neg_eigval, state_v_first, cu_seqlens,
                                  use_gate_in_kernel=use_gate_in_kernel, A_log=A_log, dt_bias=dt_bias)


def chunk_gated_delta_product(q, k, v, g, beta, num_householder, scale=None, initial_state=None,
                              output_final_state=False, use_qk_l2norm_in_kernel=False, cu_seqlens=None,
                              cu_seqlens_cpu=None):
    """n = num_householder keys, values and rates a token: k (B, T n, H, K), v (B, T n, H, V), beta (B, T n, H);
    g (B, T, H) or None. It is the gated delta rule over n steps a token: the first decays, the last is read."""
    n = num_householder
    gates = torch.zeros_like(beta)
    if g is not None:
        gates = torch.cat([g.unsqueeze(2), g.new_zeros(g.shape[0], g.shape[1], n - 1, g.shape[2])], 2).flatten(1, 2)
    o, state = chunk_gated_delta_rule(q.repeat_interleave(n, 1), k, v, gates, beta, scale, initial_state,
                                      output_final_state, use_qk_l2norm_in_kernel,
                                      cu_seqlens=None if cu_seqlens is None else cu_seqlens * n)
    return o[:, n - 1::n], state


def chunk_kda(q, k, v, g, beta, scale=None, initial_state=None, output_final_state=False,
              use_qk_l2norm_in_kernel=False, use_gate_in_kernel=False, use_beta_sigmoid_in_kernel=False,
              allow_neg_eigval=False, safe_gate=False, lower_bound=None, disable_recompute=False,
              return_intermediate_states=False, state_v_first=False, cu_seqlens=None, cu_seqlens_cpu=None,
              cp_context=None, *, A_log=None, dt_bias=None, **kwargs):
    """g (B, T, HV, K), beta (B, T, HV). With use_gate_in_kernel the decay is -exp(A_log) softplus(g + dt_bias), or with
    lower_bound lower_bound sigmoid(exp(A_log) (g + dt_bias)), without the factor where A_log is None."""
    _refuse(cp_context=cp_context, return_intermediate_states=return_intermediate_states, **kwargs)
    q, k = _unit_if(use_qk_l2norm_in_kernel, q, k)
    return _run("kda", scale, initial_state, output_final_state, cu_seqlens, state_v_first, q=q, k=k, v=v,
                log_w=_gate(g, A_log, dt_bias, lower_bound) if use_gate_in_kernel else g,
                beta=_rate(beta, use_beta_sigmoid_in_kernel, allow_neg_eigval))


def fused_recurrent_kda(q, k, v, g, beta, A_log=None, dt_bias=None, scale=None, initial_state=None,
                        output_final_state=False, use_qk_l2norm_in_kernel=False, use_gate_in_kernel=False,
                        use_beta_sigmoid_in_kernel=False, allow_neg_eigval=False, lower_bound=None,
                        state_v_first=False, cu_seqlens=None, **kwargs):
    """As chunk_kda."""
    return chunk_kda(q, k, v, g, beta, scale, initial_state, output_final_state, use_qk_l2norm_in_kernel,
                     use_gate_in_kernel, use_beta_sigmoid_in_kernel, allow_neg_eigval, lower_bound=lower_bound,
                     state_v_first=state_v_first, cu_seqlens=cu_seqlens, A_log=A_log, dt_bias=dt_bias, **kwargs)


def chunk_gdn2(q, k, v, g, b, w, scale=None, initial_state=None, output_final_state=False,
               use_qk_l2norm_in_kernel=False, use_gate_in_kernel=False, cu_seqlens=None, cu_seqlens_cpu=None,
               safe_gate=False, lower_bound=None, disable_recompute=False, return_intermediate_states=False,
               state_v_first=False, *, A_log=None, dt_bias=None, **kwargs):
    """Gated DeltaNet 2: g and b, the gate that erases, (B, T, H, K); w, the gate that writes, (B, T, H, V). Decays as
    for chunk_kda."""
    _refuse(return_intermediate_states=return_intermediate_states, **kwargs)
    q, k = _unit_if(use_qk_l2norm_in_kernel, q, k)
    return _run("gated_delta_net_2", scale, initial_state, output_final_state, cu_seqlens, state_v_first, q=q, k=k, v=v,
                log_w=_gate(g, A_log, dt_bias, lower_bound) if use_gate_in_kernel else g, b=b, c=w)


def fused_recurrent_gdn2(q, k, v, g, b, w, A_log=None, dt_bias=None, scale=None, initial_state=None,
                         output_final_state=False, use_qk_l2norm_in_kernel=False, use_gate_in_kernel=False,
                         lower_bound=None, state_v_first=False, cu_seqlens=None, **kwargs):
    """As chunk_gdn2."""
    return chunk_gdn2(q, k, v, g, b, w, scale, initial_state, output_final_state, use_qk_l2norm_in_kernel,
                      use_gate_in_kernel, cu_seqlens, lower_bound=lower_bound, state_v_first=state_v_first,
                      A_log=A_log, dt_bias=dt_bias, **kwargs)


def chunk_comba(q, k, v, p, g, beta=None, scale=None, initial_state=None, output_final_state=False,
                use_qk_l2norm_in_kernel=False, cu_seqlens=None, cu_seqlens_cpu=None):
    """p (B, T, H, K), the key that is erased, None: k; g (B, T, HV); beta (B, T, HV), None: 1."""
    p = k if p is None else p
    q, k, p = _unit_if(use_qk_l2norm_in_kernel, q, k, p)
    return _run("comba", scale, initial_state, output_final_state, cu_seqlens, q=q, k=k, v=v, log_w=g, p=p,
                beta=_ones(q, v.shape[2]) if beta is None else beta)


def fused_recurrent_comba(q, k, p, v, g, beta=None, scale=None, initial_state=None, output_final_state=False,
                          use_qk_l2norm_in_kernel=False, cu_seqlens=None):
    """As chunk_comba, with p before v."""
    return chunk_comba(q, k, v, p, g, beta, scale, initial_state, output_final_state, use_qk_l2norm_in_kernel,
                       cu_seqlens)


# The identity or a diagonal plus a matrix of rank one


def chunk_iplr_delta_rule(q, k, v, a, b, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None,
                          cu_seqlens_cpu=None, **kwargs):
    """a reads the state and b is where that is written, (B, T, H, K) each."""
    _refuse(**kwargs)
    return _run("iplr", scale, initial_state, output_final_state, cu_seqlens, q=q, k=k, v=v, alpha=a, beta=b)


def fused_recurrent_iplr_delta_rule(q, k, v, a, b, scale=None, initial_state=None, output_final_state=False,
                                    cu_seqlens=None):
    """As chunk_iplr_delta_rule."""
    return chunk_iplr_delta_rule(q, k, v, a, b, scale, initial_state, output_final_state, cu_seqlens)


def chunk_dplr_delta_rule(q, k, v, a, b, gk, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None,
                          cu_seqlens_cpu=None, safe_gate=False, chunk_size=None, disable_recompute=False,
                          cp_context=None, lower_bound=None, **kwargs):
    """a reads the state before its decay and b is where that is written; a, b, gk (B, T, H, K)."""
    _refuse(cp_context=cp_context, **kwargs)
    return _run("dplr", scale, initial_state, output_final_state, cu_seqlens, q=q, log_w=gk, k=k, v=v, alpha=a, beta=b)


def fused_recurrent_dplr_delta_rule(q, k, v, a, b, gk, scale=None, initial_state=None, output_final_state=False,
                                    reverse=False, cu_seqlens=None):
    """As chunk_dplr_delta_rule."""
    _refuse(reverse=reverse)
    return chunk_dplr_delta_rule(q, k, v, a, b, gk, scale, initial_state, output_final_state, cu_seqlens)
