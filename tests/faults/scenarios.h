// What users do, in whole programs, for faults_test.cc to make each of their calls fail.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "../support/handles.h"

using WriterOptions = std::unique_ptr<finermoe_writer_options, FreeWith<finermoe_writer_options_free>>;
using UpcycleOptions = std::unique_ptr<finermoe_upcycle_options, FreeWith<finermoe_upcycle_options_free>>;
using QuantizeOptions = std::unique_ptr<finermoe_quantize_options, FreeWith<finermoe_quantize_options_free>>;
using Verification = std::unique_ptr<finermoe_verification, FreeWith<finermoe_verification_free>>;

// The files that the programs work with and on.
struct Places {
  std::string model, dense, out, out_file, saved;
};
extern Places places;

// Each program ends with the first status that is not FINERMOE_OK. It runs in a child process.
using Scenario = int32_t();
int32_t plan();
int32_t open_a_copy();
int32_t tokenize();
int32_t generate();
int32_t chat();
int32_t batch();
int32_t draft();
int32_t save_and_restore();
int32_t rearrange();
int32_t steer();
int32_t similarity_of_experts();
int32_t upcycle();
int32_t quantize();
int32_t synthesize_one_file();
int32_t verify();

int32_t writer_options(WriterOptions& options);

// Ends the child process and says why, without memory.
[[noreturn]] void give_up(const char* what, const char* detail);
