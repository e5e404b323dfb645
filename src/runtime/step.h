// One pass over the weights for some tokens of some sessions.
#pragma once

#include <span>

#include "runtime/session.h"
#include "runtime/use.h"

namespace finermoe {

struct StepPart {
  Session* session;
  std::span<const int32_t> tokens;     // to append
  std::span<const size_t> logit_rows;  // ascending indices into tokens
};

// Computes all parts together and extends their sessions; on an error or a stop no session changes.
// No two parts share a session, and all sessions have one precision. logits [sum of logit_rows.size(), vocab], in the
// order of the parts.
Status run_step(LoadedModel& model, std::span<const StepPart> parts, float* logits, const StopSignals& stop);

}  // namespace finermoe
