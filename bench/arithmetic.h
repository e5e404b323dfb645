// How fast this processor can multiply: probes that do nothing else, with all operands in registers. The most that a
// format could reach is the fastest of the ways to multiply it.
#pragma once

#include <vector>

namespace finermoe::bench {

enum class Arithmetic {
  float32,  // multiply-adds
  bf16,     // dots of pairs, or the same as float32
  int8,     // dots of four bytes
  blocks    // these in blocks of 32 columns, with a scale for weights and one for activations: what Q8 and Q4 need
};

// One way to multiply, on one thread: each repeat computes so many multiply-accumulates.
struct ArithmeticWay {
  void (*run)(long repeats);
  double macs;
};

// Those that this processor can execute: none without AVX2.
std::vector<ArithmeticWay> arithmetic_ways(Arithmetic kind);

}  // namespace finermoe::bench
