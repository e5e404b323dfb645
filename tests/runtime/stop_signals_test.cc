// What stops a call: the first closed object that it watches, or its cancel flag.
#include "runtime/stop_signals.h"

#include <gtest/gtest.h>

namespace finermoe {
namespace {

TEST(StopSignals, NameTheObjectThatWasClosed) {
  const CancelFlag cancel{false};
  std::atomic<bool> closed[4] = {};
  StopSignals stop(&cancel);
  const char* const names[] = {"model", "session", "generation", "draft model"};  // as many as any call watches
  for (size_t i = 0; i < 4; i++) stop.watch(closed[i], names[i]);
  EXPECT_TRUE(stop.check().ok()) << stop.check().message();
  for (size_t i = 4; i-- > 0;) {
    closed[i] = true;
    EXPECT_EQ(FINERMOE_ERROR_CLOSED, stop.check().code());
    EXPECT_EQ("the " + std::string(names[i]) + " was closed", stop.check().message());
  }
}

TEST(StopSignals, ACallIsCancelled) {
  CancelFlag cancel{false};
  const StopSignals stop(&cancel);
  EXPECT_TRUE(stop.check().ok());
  cancel = true;
  EXPECT_EQ(FINERMOE_ERROR_CANCELLED, stop.check().code());
}

TEST(StopSignals, MoreThanThereIsRoomForIsNotForgottenSilently) {
  std::atomic<bool> closed{false};
  StopSignals stop(nullptr);
  for (int i = 0; i < 5; i++) stop.watch(closed, "model");
  EXPECT_EQ(FINERMOE_ERROR_INTERNAL, stop.check().code());
}

}  // namespace
}  // namespace finermoe
