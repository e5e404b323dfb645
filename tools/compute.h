// The flags of all commands that run a model, and the model and session that they open.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "handles.h"

namespace tool {

class Progress;

struct ComputeFlags {
  uint32_t threads = 0;
  std::string isa = "auto";
  std::string device, device_module, expert_device;  // names and a path; empty: the default
  std::string blas;                                  // a path, or auto; empty: none
  uint64_t device_memory = 0;                        // bytes of the device; 0: no limit
  uint64_t expert_cache = 0;                         // bytes of the device; 0: none
  uint64_t memory_limit = 0;                         // bytes; 0: none
  uint64_t context = 0;                              // tokens; 0: the command decides
  std::string kv_dtype = "f32";
  std::string precision = "exact";
  bool profile = false;  // measure the operations
  bool copy = false;     // copy the weights into memory
  std::string lock = "none", prefetch = "auto";
  uint64_t expert_budget = 0;  // bytes; 0: none
};

enum ComputeParts { kThreadsOnly, kWithSession };

void add_compute(CLI::App& app, ComputeFlags& flags, ComputeParts parts = kWithSession);
void add_threads(CLI::App& app, ComputeFlags& flags);
void add_session(CLI::App& app, ComputeFlags& flags);  // --context and --kv-dtype
void add_device(CLI::App& app, ComputeFlags& flags);   // --device, --device-memory and --device-module
void add_expert_cache(CLI::App& app, ComputeFlags& flags);
void add_device_module(CLI::App& app, ComputeFlags& flags);
void add_blas(CLI::App& app, ComputeFlags& flags);
void add_memory_limit(CLI::App& app, ComputeFlags& flags);
void add_expert_budget(CLI::App& app, ComputeFlags& flags);
void add_residency(CLI::App& app, ComputeFlags& flags);  // --copy, --lock, --expert-budget and --prefetch

void set_blas(const RuntimeOptions& options, const ComputeFlags& flags);
// For sessions of --context, or the library's default.
finermoe_plan compute_plan(const Config& config, const ComputeFlags& flags, size_t n_sessions);
Model open_model(const std::string& path, const ComputeFlags& flags, finermoe_cancel* cancel);
// On the runtime of the other model.
Model open_beside(const Model& other, const std::string& path);
// context: tokens; 0: the library's default. --context overrides it.
// progress: shows long prefills; must outlive the session; may be null.
Session open_session(const Model& model, const ComputeFlags& flags, uint64_t context, Progress* progress = nullptr);
SessionOptions session_options(const ComputeFlags& flags, uint64_t context);

}  // namespace tool
