// How the tiles of AMX are configured. Without instructions of any set, for what is not compiled for one as well.
#pragma once

#include <cstdint>

namespace finermoe {

// What the instruction that configures tiles reads: eight of 16 lines of 64 bytes.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t line_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t lines[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

}  // namespace finermoe
