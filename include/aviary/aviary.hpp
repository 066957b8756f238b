#pragma once
/// Every memory of the library. A program that uses one compiles faster with that one's own header.
#include "aviary/delta_rule.hpp"
#include "aviary/dplr.hpp"
#include "aviary/gold.hpp"
#include "aviary/linear_attention.hpp"
#include "aviary/wkv4.hpp"
#include "aviary/wkv5.hpp"
#include "aviary/wkv6.hpp"
#include "aviary/wkv7.hpp"
