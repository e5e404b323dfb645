// Signals that end a command cleanly.
#pragma once

#include "handles.h"

namespace tool {

// While one exists, SIGINT, SIGTERM and SIGHUP raise its cancel object instead of ending the program. There may be one
// at a time. A second signal ends the program immediately, unless the interrupt is told to be patient.
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

int last_signal();            // received by an Interrupt; 0: none yet
void throw_if_interrupted();  // Failure, if an Interrupt exists that has received a signal

}  // namespace tool
