// Signals that end a command in good order.
#pragma once

#include "handles.h"

namespace tool {

// While it lives, SIGINT, SIGTERM and SIGHUP raise its cancel object instead of ending the program. One at a time. A
// second signal ends the program at once, unless the interrupt is told to be patient.
class Interrupt {
 public:
  enum Manner { kOnce, kPatient };
  explicit Interrupt(Manner manner = kOnce);
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  finermoe_cancel* cancel() const { return cancel_.get(); }
  bool requested() const { return finermoe_cancel_requested(cancel_.get()) != 0; }
  void reset() { finermoe_cancel_reset(cancel_.get()); }
  // Between these two, signals end the program as usual.
  void disarm();
  void arm();

 private:
  Manner manner_;
  Cancel cancel_;
};

int last_signal();            // that an Interrupt has seen; 0: none yet
void throw_if_interrupted();  // Failure, where an Interrupt lives that has seen a signal

}  // namespace tool
