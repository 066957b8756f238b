/// What nearly every test includes, compiled once before them. Nothing of the library: tests must notice when a header of it
/// changes, and some define a macro of it first.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <numbers>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <variant>
#include <vector>
#include <xsimd/xsimd.hpp>
