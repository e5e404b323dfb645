#include "sampling/sampling_options.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

namespace finermoe {
namespace {

const SamplingRange& range_of(const std::string& name) {
  for (const SamplingRange& range : sampling_ranges) {
    if (range.name == name) return range;
  }
  ADD_FAILURE() << name;
  return sampling_ranges[0];
}

TEST(SamplingOptions, WhatNothingAsksForIsInRange) {
  const SamplingOptions options;
  std::set<std::string> names;
  for (const SamplingRange& range : sampling_ranges) {
    EXPECT_TRUE(names.insert(range.name).second) << range.name;
    EXPECT_TRUE(range.holds(options.*range.number)) << range.name;
    EXPECT_FALSE(range.holds(NAN)) << range.name;
    EXPECT_FALSE(range.holds(INFINITY)) << range.name;
    EXPECT_FALSE(range.holds(-INFINITY)) << range.name;
  }
}

TEST(SamplingOptions, EndsOfTheRanges) {
  for (const char* name : {"top_p", "typical_p"}) {
    EXPECT_FALSE(range_of(name).holds(0));
    EXPECT_TRUE(range_of(name).holds(1e-300));
    EXPECT_TRUE(range_of(name).holds(1));
    EXPECT_FALSE(range_of(name).holds(1.0000001));
  }
  EXPECT_TRUE(range_of("min_p").holds(0));
  EXPECT_FALSE(range_of("min_p").holds(1));
  EXPECT_TRUE(range_of("temperature").holds(1000));
  EXPECT_FALSE(range_of("temperature").holds(-1e-9));
  EXPECT_FALSE(range_of("repetition_penalty").holds(0));
  EXPECT_TRUE(range_of("repetition_penalty").holds(1e-6));
  EXPECT_TRUE(range_of("frequency_penalty").holds(-1e6));
  EXPECT_FALSE(range_of("presence_penalty").holds(1.1e6));
}

TEST(SamplingOptions, Biases) {
  for (float bias : {0.0f, 1e6f, -1e6f, -INFINITY}) EXPECT_TRUE(is_bias(bias)) << bias;
  for (float bias : {1.1e6f, -1.1e6f, INFINITY, NAN}) EXPECT_FALSE(is_bias(bias)) << bias;
}

}  // namespace
}  // namespace finermoe
