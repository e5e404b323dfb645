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
  Code status = FINERMOE_OK;           // out: the error of this part alone
};

// Computes all parts together and extends their sessions; on an error or a stop no session changes. An error that some
// parts have alone (a router logit that is not finite, a trace in use or without room) stands in their status, too; the
// other parts can be computed without them.
// No two parts share a session, and all sessions have one precision. logits [sum of logit_rows.size(), vocab], in the
// order of the parts.
Status run_step(LoadedModel& model, std::span<StepPart> parts, float* logits, const StopSignals& stop);

}  // namespace finermoe
