// What is said of a driver that is not there, too old, or without a device.
#include "cuda/driver.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace finermoe::cuda {
namespace {

Status status_with(const char* variable) {
  const char* const library = std::getenv(variable);
  EXPECT_NE(library, nullptr) << variable;
  return load_driver(library == nullptr ? "" : library).status();
}
void expect_message(const Status& status, const std::string& part) {
  EXPECT_EQ(FINERMOE_ERROR_UNSUPPORTED, status.code());
  EXPECT_NE(std::string::npos, status.message().find(part)) << status.message();
}

TEST(CudaDriver, EachReasonHasItsMessage) {
  expect_message(load_driver("libcuda-that-is-not-there.so.1").status(), "there is no NVIDIA driver");
  expect_message(status_with("FINERMOE_TEST_DRIVER_OLD"), "too old: it supports CUDA 12.4, and 13.0 is needed");
  expect_message(status_with("FINERMOE_TEST_DRIVER_LACKING"), "too old: it lacks cuDeviceGetUuid_v2");
  expect_message(status_with("FINERMOE_TEST_DRIVER_WITHOUT_DEVICE"), "finds no device");
  expect_message(status_with("FINERMOE_TEST_DRIVER_FAILING"), "CUDA_ERROR_UNKNOWN");
  EXPECT_EQ("12.4", status_with("FINERMOE_TEST_DRIVER_OLD").found());
}

TEST(CudaDriver, AGoodOneIsReady) {
  auto driver = load_driver(std::getenv("FINERMOE_TEST_DRIVER_GOOD"));
  ASSERT_TRUE(driver.ok()) << driver.status().message();
  int count = 0;
  EXPECT_EQ(success, (*driver)->device_count(&count));
  EXPECT_EQ(2, count);
}

}  // namespace
}  // namespace finermoe::cuda
