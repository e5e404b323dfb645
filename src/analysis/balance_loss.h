// How evenly a router uses its experts.
#pragma once

#include <cstdint>
#include <span>

namespace finermoe {

// Eq. 11 (docs/finermoe-layer.md, section 7) without alpha, over n_tokens tokens taken as one sequence: 1 if all
// experts are used equally.
//   usage        [N] how often each expert was chosen
//   probability  [N] the sum over the tokens of its probability in the softmax over all N logits
double balance_loss(std::span<const uint64_t> usage, std::span<const double> probability, uint64_t n_experts_per_token,
                    uint64_t n_tokens);

}  // namespace finermoe
