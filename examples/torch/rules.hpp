#pragma once
/// The rules that are operators, family by family. A rule of one's own is added here.
#include <tuple>
#include <type_traits>

#include "aviary/delta_rule.hpp"
#include "aviary/dplr.hpp"
#include "aviary/linear_attention.hpp"
#include "aviary/wkv5.hpp"
#include "aviary/wkv6.hpp"
#include "aviary/wkv7.hpp"

namespace aviary_torch {

template <class... R> struct Rules {};
template <class... A, class... B> constexpr Rules<A..., B...> operator+(Rules<A...>, Rules<B...>) { return {}; }
template <class... R> constexpr std::size_t count(Rules<R...>) { return sizeof...(R); }
template <std::size_t number, class... R>
std::tuple_element_t<number, std::tuple<R...>> rule_at(Rules<R...>);  ///< for its type
template <class R, class... All> constexpr bool contains(Rules<All...>) { return (std::is_same_v<R, All> || ...); }

using RwkvRules = Rules<aviary::Wkv5Rule<aviary::Axis::head_key>, aviary::Wkv5Rule<aviary::Axis::head_one>,
                        aviary::Wkv6Rule, aviary::FinchC2Rule, aviary::Wkv7Rule>;
using LinearAttentionRules =
    Rules<aviary::LinearAttentionRule, aviary::GatedLinearAttentionRule<aviary::Axis::head_one>,
          aviary::GatedLinearAttentionRule<aviary::Axis::one>, aviary::GatedLinearAttentionRule<aviary::Axis::key>>;
using DeltaRules = Rules<aviary::DeltaNetRule, aviary::GatedDeltaRule<aviary::Axis::one>,
                         aviary::GatedDeltaRule<aviary::Axis::key>, aviary::GatedDeltaNet2Rule, aviary::CombaRule>;
using LowRankRules = Rules<aviary::IplrRule, aviary::DplrRule>;
using AllRules = decltype(RwkvRules() + LinearAttentionRules() + DeltaRules() + LowRankRules());

}  // namespace aviary_torch
