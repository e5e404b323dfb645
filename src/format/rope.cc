#include "format/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "format/config_fields.h"

namespace finermoe {
namespace {

constexpr double most_positions = 1 << 27, most = 1e6;

Status not_supported(std::string_view name, const std::string& found) {
  return Status(FINERMOE_ERROR_ROPE_SCALING, format_text(name, ": the rope scaling \"", found, "\" is not supported"),
                "\"default\", \"linear\", \"yarn\" or \"llama3\"", found);
}

Result<RopeScaling> parse_scaling(const Fields& in, std::string_view name) {
  // Older files say "type"; if both are present, the newer key counts.
  FM_ASSIGN(const std::string older, in.get_string("type", "default"));
  FM_ASSIGN(const std::string type, in.get_string("rope_type", older));
  if (type == "default") return RopeScaling::none;
  if (type == "linear") return RopeScaling::linear;
  if (type == "yarn") return RopeScaling::yarn;
  if (type == "llama3") return RopeScaling::llama3;
  return not_supported(name, type);
}

// The attention scaling that compensates for longer contexts (YaRN, arXiv 2309.00071).
double yarn_scale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

Status parse_yarn(const Fields& in, const Fields& fields, uint64_t max_positions, Rope& rope) {
  const bool has_original = in.find("original_max_position_embeddings") != nullptr ||
                            fields.find("original_max_position_embeddings") != nullptr;
  if (in.find("factor") == nullptr && has_original) {
    rope.factor = static_cast<double>(max_positions) / rope.original_positions;
  } else {
    FM_ASSIGN(rope.factor, in.get_double("factor", 1 / most, most));
  }
  FM_ASSIGN(const double mscale, in.get_double("mscale", -most, most, 0));
  FM_ASSIGN(const double mscale_all_dim, in.get_double("mscale_all_dim", -most, most, 0));
  const double by_default = mscale != 0 && mscale_all_dim != 0
                                ? yarn_scale(rope.factor, mscale) / yarn_scale(rope.factor, mscale_all_dim)
                                : yarn_scale(rope.factor, 1);
  FM_ASSIGN(rope.attention_factor, in.get_double("attention_factor", -most, most, by_default));
  FM_ASSIGN(rope.beta_fast, in.get_double("beta_fast", 0, most, 0));
  FM_ASSIGN(rope.beta_slow, in.get_double("beta_slow", 0, most, 0));
  if (rope.beta_fast == 0) rope.beta_fast = 32;  // 0 means the default, as in transformers
  if (rope.beta_slow == 0) rope.beta_slow = 1;
  FM_ASSIGN(rope.truncate, in.get_bool("truncate", !in.is_null("truncate")));  // and null for false
  return {};
}

// The (fractional) index of the frequency that makes this many rotations within the original positions.
double frequency_with(const Rope& rope, double rotations, double head_size) {
  return head_size * std::log(rope.original_positions / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(rope.theta));
}

void scale_yarn(const Rope& rope, uint64_t head_size, std::span<float> frequencies) {
  const auto d = static_cast<double>(head_size);
  double low = frequency_with(rope, rope.beta_fast, d), high = frequency_with(rope, rope.beta_slow, d);
  if (rope.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, d - 1);
  if (low == high) high += 0.001;  // avoids division by zero
  for (size_t i = 0; i < frequencies.size(); i++) {
    const float ramp = (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float kept = 1 - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);
    const float divided = 1 / (static_cast<float>(rope.factor) * (1 / frequencies[i]));
    frequencies[i] = divided * (1 - kept) + frequencies[i] * kept;
  }
}

void scale_llama3(const Rope& rope, std::span<float> frequencies) {
  const auto factor = static_cast<float>(rope.factor), low = static_cast<float>(rope.low_freq_factor);
  const auto range = static_cast<float>(rope.high_freq_factor - rope.low_freq_factor);
  const auto longest = static_cast<float>(rope.original_positions / rope.low_freq_factor);
  const auto shortest = static_cast<float>(rope.original_positions / rope.high_freq_factor);
  for (float& frequency : frequencies) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
    if (wavelength > longest) {
      frequency /= factor;
    } else if (!(wavelength < shortest)) {
      const float kept = (static_cast<float>(rope.original_positions) / wavelength - low) / range;
      frequency = (1 - kept) * frequency / factor + kept * frequency;
    }
  }
}

// A hostile or careless file may give parameters that yield no finite value.
Status check_finite(const Rope& rope, std::string_view name, uint64_t head_size) {
  std::vector<float> frequencies(head_size / 2);
  rope.frequencies(head_size, frequencies);
  bool finite = std::isfinite(rope.attention_factor);
  for (const float frequency : frequencies) finite = finite && std::isfinite(frequency);
  if (finite) return {};
  return Status(
      FINERMOE_ERROR_ROPE_SCALING,
      format_text(name, ": the numbers of the rope scaling \"", rope.scaling_name(), "\" give no finite frequencies"),
      "finite frequencies", "NaN or infinity");
}

}  // namespace

Result<Rope> Rope::parse(const Fields& fields, std::string_view name, uint64_t max_positions, uint64_t head_size) {
  // transformers reads "rope_scaling" if it is not empty, and otherwise the newer name.
  const Json empty = Json::object();
  const Json* object = &empty;
  const char* key = "rope_scaling";
  for (const char* one : {"rope_parameters", "rope_scaling"}) {
    const Json* value = fields.find(one);
    if (value == nullptr) continue;
    if (!value->is_object()) return fields.wrong(one, "an object or null");
    if (!value->empty()) object = value, key = one;
  }
  const std::string place = format_text(name, ": ", key);
  const Fields in(*object, place);
  if (in.find("full_attention") != nullptr || in.find("sliding_attention") != nullptr) {
    return not_supported(name, "one for each type of layer");
  }

  Rope rope;
  constexpr double largest_theta = 1e18;
  FM_ASSIGN(rope.theta, fields.get_double("rope_theta", 1, largest_theta, rope.theta));
  FM_ASSIGN(rope.theta, in.get_double("rope_theta", 1, largest_theta, rope.theta));
  FM_ASSIGN(rope.scaling, parse_scaling(in, name));
  if (rope.scaling == RopeScaling::none) return rope;

  FM_ASSIGN(double rotated, fields.get_double("partial_rotary_factor", 0, 1, 1));  // read only with a scaling
  FM_ASSIGN(rotated, in.get_double("partial_rotary_factor", 0, 1, rotated));
  const auto d = static_cast<double>(head_size);
  if (std::floor(d * rotated) != d) return not_supported(name, format_text("partial_rotary_factor ", rotated));
  constexpr const char* original = "original_max_position_embeddings";
  FM_ASSIGN(rope.original_positions, in.get_double(original, 1, most_positions, static_cast<double>(max_positions)));
  FM_ASSIGN(rope.original_positions, fields.get_double(original, 1, most_positions, rope.original_positions));
  if (rope.scaling == RopeScaling::yarn) {
    FM_TRY(parse_yarn(in, fields, max_positions, rope));
  } else {
    FM_ASSIGN(rope.factor, in.get_double("factor", 1 / most, most));
  }
  if (rope.scaling == RopeScaling::llama3) {
    FM_ASSIGN(rope.low_freq_factor, in.get_double("low_freq_factor", 1 / most, most));
    FM_ASSIGN(rope.high_freq_factor, in.get_double("high_freq_factor", 1 / most, most));
  }
  FM_TRY(check_finite(rope, name, head_size));
  return rope;
}

const char* Rope::scaling_name() const {
  switch (scaling) {
    case RopeScaling::linear:
      return "linear";
    case RopeScaling::yarn:
      return "yarn";
    case RopeScaling::llama3:
      return "llama3";
    default:
      return "none";
  }
}

uint64_t Rope::scaled_positions(uint64_t max_positions) const {
  // With a scaling, Qwen2.5 and early Llamas keep the max_position_embeddings of training; Llama 3 and others give the
  // final number.
  const double base = scaling == RopeScaling::linear ? static_cast<double>(max_positions)
                      : scaling == RopeScaling::yarn ? original_positions
                                                     : 0;
  return std::max(max_positions, static_cast<uint64_t>(std::min(base * factor, most_positions)));
}

void Rope::frequencies(uint64_t head_size, std::span<float> out) const {
  for (size_t i = 0; i < out.size(); i++) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_size);
    out[i] = 1.0f / static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
  }
  if (scaling == RopeScaling::linear) {
    for (float& frequency : out) frequency /= static_cast<float>(factor);
  }
  if (scaling == RopeScaling::yarn) scale_yarn(*this, head_size, out);
  if (scaling == RopeScaling::llama3) scale_llama3(*this, out);
}

void Rope::rotations(std::span<const float> frequencies, std::span<const uint32_t> positions, float* cos,
                     float* sin) const {
  const auto factor_of_both = static_cast<float>(attention_factor);
  for (const uint32_t position : positions) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      *cos++ = std::cos(angle) * factor_of_both;
      *sin++ = std::sin(angle) * factor_of_both;
    }
  }
}

void Rope::turns_back(uint64_t head_size, uint64_t n, std::span<float> cos, std::span<float> sin) const {
  std::vector<float> of_position(head_size / 2);
  frequencies(head_size, of_position);
  for (size_t i = 0; i < of_position.size(); i++) {
    const double angle = static_cast<double>(n) * static_cast<double>(of_position[i]);
    cos[i] = static_cast<float>(std::cos(angle));
    sin[i] = static_cast<float>(std::sin(angle));
  }
}

}  // namespace finermoe
