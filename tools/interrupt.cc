#include "interrupt.h"

#include <signal.h>

#include <atomic>

#include "failure.h"
#include "library.h"

namespace tool {

namespace {

std::atomic<finermoe_cancel*> interrupt_target{nullptr};
volatile sig_atomic_t interrupt_signal = 0;

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};

void on_signal(int number) {
  interrupt_signal = number;
  if (finermoe_cancel* cancel = interrupt_target.load()) finermoe_cancel_request(cancel);
}

}  // namespace

Interrupt::Interrupt(Manner manner) : manner_(manner) {
  call(finermoe_cancel_create, cancel_.out());
  interrupt_signal = 0;
  interrupt_target = cancel_.get();
  arm();
}

Interrupt::~Interrupt() {
  disarm();
  interrupt_target = nullptr;
}

int last_signal() { return interrupt_signal; }

void throw_if_interrupted() {
  if (interrupt_target != nullptr && interrupt_signal != 0) throw Failure(128 + interrupt_signal, "cancelled");
}

void Interrupt::arm() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  // Without SA_RESTART, so that a read waiting for the user is interrupted.
  action.sa_flags = manner_ == kOnce ? static_cast<int>(SA_RESETHAND) : 0;
  for (const int number : kSignals) sigaction(number, &action, nullptr);
}

void Interrupt::disarm() {
  for (const int number : kSignals) signal(number, SIG_DFL);
}

}  // namespace tool
