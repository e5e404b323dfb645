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
void expect_message(int32_t code, const Status& status, const std::string& part) {
  EXPECT_EQ(code, status.code());
  EXPECT_NE(std::string::npos, status.message().find(part)) << status.message();
}

TEST(CudaDriver, EachReasonHasItsCodeAndMessage) {
  expect_message(FINERMOE_ERROR_NO_DRIVER, load_driver("libcuda-that-is-not-there.so.1").status(),
                 "there is no NVIDIA driver");
  expect_message(FINERMOE_ERROR_DRIVER_TOO_OLD, status_with("FINERMOE_TEST_DRIVER_OLD"),
                 "too old: it supports CUDA 12.4, and 13.0 is needed");
  expect_message(FINERMOE_ERROR_DRIVER_TOO_OLD, status_with("FINERMOE_TEST_DRIVER_LACKING"),
                 "too old: it lacks cuDeviceGetUuid_v2");
  expect_message(FINERMOE_ERROR_NO_DEVICE, status_with("FINERMOE_TEST_DRIVER_WITHOUT_DEVICE"), "finds no device");
  expect_message(FINERMOE_ERROR_NO_DRIVER, status_with("FINERMOE_TEST_DRIVER_FAILING"),
                 "does not start: CUDA_ERROR_UNKNOWN (999)");
  EXPECT_EQ("12.4", status_with("FINERMOE_TEST_DRIVER_OLD").found());
}

// What the driver answers to a call, by its kind.
TEST(CudaDriver, EachAnswerHasItsCode) {
  auto driver = load_driver(std::getenv("FINERMOE_TEST_DRIVER_GOOD"));
  ASSERT_TRUE(driver.ok());
  const auto code_of = [&](Code code) { return status_of(**driver, code, "a test").code(); };
  EXPECT_EQ(FINERMOE_OK, code_of(success));
  EXPECT_EQ(FINERMOE_ERROR_DEVICE_MEMORY, code_of(error_out_of_memory));
  EXPECT_EQ(FINERMOE_ERROR_NO_DEVICE, code_of(46));
  EXPECT_EQ(FINERMOE_ERROR_UNSUPPORTED, code_of(209));
  EXPECT_EQ(FINERMOE_ERROR_DRIVER_TOO_OLD, code_of(222));
  for (const Code code : {214, 700, 702, 716, 719, 999}) EXPECT_EQ(FINERMOE_ERROR_DEVICE_LOST, code_of(code)) << code;
  EXPECT_EQ(FINERMOE_ERROR_STATE, code_of(error_not_initialized));  // in a child of fork()
  for (const Code code : {1, 201, 400, 701}) EXPECT_EQ(FINERMOE_ERROR_INTERNAL, code_of(code)) << code;
  EXPECT_EQ("CUDA: a test: CUDA_ERROR_UNKNOWN (999); the device is lost, and this process cannot use it again",
            status_of(**driver, 999, "a test").message());
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
