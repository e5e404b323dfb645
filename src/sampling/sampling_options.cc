#include "sampling/sampling_options.h"

#include <cmath>

namespace finermoe {
namespace {

bool is_penalty(double x) { return std::isfinite(x) && std::abs(x) <= 1e6; }
bool is_share(double x) { return x > 0 && x <= 1; }

}  // namespace

const std::array<SamplingRange, 7> sampling_ranges = {{
    {&SamplingOptions::temperature, "temperature", [](double x) { return x >= 0 && x <= 1000; }, "0 to 1000"},
    {&SamplingOptions::top_p, "top_p", is_share, "more than 0 and at most 1"},
    {&SamplingOptions::min_p, "min_p", [](double x) { return x >= 0 && x < 1; }, "0 or more and less than 1"},
    {&SamplingOptions::typical_p, "typical_p", is_share, "more than 0 and at most 1"},
    {&SamplingOptions::repetition_penalty, "repetition_penalty", [](double x) { return x >= 1e-6 && is_penalty(x); },
     "1e-6 to 1e6"},
    {&SamplingOptions::frequency_penalty, "frequency_penalty", is_penalty, "a finite number"},
    {&SamplingOptions::presence_penalty, "presence_penalty", is_penalty, "a finite number"},
}};

bool is_bias(float bias) { return bias <= 1e6f && (bias >= -1e6f || bias == -INFINITY); }

}  // namespace finermoe
