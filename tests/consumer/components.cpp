/// The component brings its dependency along.
#include <aviary/io/safetensors.hpp>
#include <nlohmann/json.hpp>

int main() {
  nlohmann::json const json = {{"size", aviary::size_of(aviary::NumberFormat::f32)}};
  return json["size"] == 4 ? 0 : 1;
}
