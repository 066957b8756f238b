/// The components bring their dependencies along.
#include <Eigen/Core>
#include <aviary/core/config.hpp>
#include <nlohmann/json.hpp>

int main() {
  Eigen::Vector2f const x{3.0f, 4.0f};
  nlohmann::json const json = {{"norm", x.norm()}};
  return json["norm"] == 5.0f ? 0 : 1;
}
