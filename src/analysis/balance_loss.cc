#include "analysis/balance_loss.h"

namespace finermoe {

double balance_loss(std::span<const uint64_t> usage, std::span<const double> probability, uint64_t n_experts_per_token,
                    uint64_t n_tokens) {
  const double tokens = static_cast<double>(n_tokens);
  const double scale = static_cast<double>(usage.size()) / (static_cast<double>(n_experts_per_token) * tokens);
  double loss = 0;
  for (size_t e = 0; e < usage.size(); e++) {
    const double f = scale * static_cast<double>(usage[e]);  // f_i
    const double p = probability[e] / tokens;                // P_i
    loss += f * p;
  }
  return loss;
}

}  // namespace finermoe
