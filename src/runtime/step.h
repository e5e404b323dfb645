// One pass over the weights for some tokens of some sessions.
#pragma once

#include <span>

#include "model/forward.h"
#include "runtime/exclusive_use.h"
#include "runtime/session.h"
#include "runtime/stop_signals.h"

namespace finermoe {

struct StepPart {
  Session* session;
  size_t n;                      // of its tokens that are not computed: the first so many
  std::span<const size_t> rows;  // of these, ascending: those that are read out
  Status status = {};            // out: the error of this part alone
};

// Computes all parts together; on an error or a stop no session has computed any more than before. An error that some
// parts have alone (a router logit that is not finite, a trace in use or without room) stands in their status, too; the
// other parts can be computed without them.
// No two parts share a session, and all sessions have one precision. `readout` says what is wanted of the rows of all
// parts, in the order of the parts; its own rows are set here.
Status run_step(LoadedModel& model, std::span<StepPart> parts, Readout readout, const StopSignals& stop);

}  // namespace finermoe
