// A device that behaves as a GPU does, made of the CPU: the host cannot read its memory, its weights are copies, and
// its operations run later, on a thread of its own, with random pauses. What works on it rests on nothing that only the
// CPU promises.
#pragma once

#include "backend/device.h"

namespace finermoe {

// Around the CPU. Its name is "deferred".
std::shared_ptr<const Device> deferred_device();
std::shared_ptr<Backend> deferred(std::shared_ptr<Backend> backend);

}  // namespace finermoe
