#pragma once
/// What published layers do to their numbers before a kernel takes them: one include, and which model uses which.
///
///   model                            log_w                                       queries and keys
///   WKV-4, WKV-5, WKV-6, Finch-C2    log_w_of_exponential(w_raw)                 as they are
///   WKV-7                            log_w_of_sigmoid(w_raw)                     normalize_max(kappa_hat)
///   linear attention                 none                                        q query_scale(K)
///   RetNet                           log_w_of_retnet(head)                       q query_scale(K)
///   GLA                              log_w_of_gla(x)                             q query_scale(K)
///   Mamba-2 as simple GLA            log_w_of_softplus(x, a_log, dt_bias)        as they are
///   DeltaNet                         none                                        normalize_plus(q), (k); q query_scale(K)
///   Gated DeltaNet, Comba            log_w_of_softplus(x, a_log, dt_bias)        the same
///   KDA                              log_w_of_softplus, per channel, or
///                                    log_w_of_bounded_sigmoid(..., -5)           the same
///
/// The gates and the scale are functions of one number or of a SIMD batch of them (core/math.hpp), the normalisations are of
/// a row (simd/normalize.hpp). For whole rows of gates: simd::transform.
#include "aviary/core/math.hpp"
#include "aviary/simd/normalize.hpp"
