// Which sanitizer a test was compiled with: GCC defines macros, Clang has features.
#pragma once

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

namespace finermoe {

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
constexpr bool address_sanitizer = true;
#else
constexpr bool address_sanitizer = false;
#endif

#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
constexpr bool thread_sanitizer = true;
#else
constexpr bool thread_sanitizer = false;
#endif

}  // namespace finermoe
