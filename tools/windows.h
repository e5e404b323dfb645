// Splits a long text into pieces that fit into a session.
#pragma once

#include <cstdint>
#include <vector>

#include "compute.h"
#include "handles.h"

namespace tool {

using Windows = std::vector<std::vector<int32_t>>;

// Without overlap: if there are several rows, each is a window; a single row is cut into pieces of `window` ids.
Windows cut_windows(std::vector<std::vector<int32_t>> rows, size_t window);

size_t count_tokens(const Windows& windows);
size_t longest_window(const Windows& windows);  // at least 1
size_t default_window(const Model& model, const ComputeFlags& flags);

}  // namespace tool
