// Huge pages for weights: fewer look-ups of addresses, and the hardware fetches ahead across 2 MiB instead of 4 KiB.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace csm {

constexpr uintptr_t kHugePage = uintptr_t{1} << 21;

// A wish: where the system cannot, nothing changes.
inline void use_huge_pages(const void* data, size_t bytes) {
#if defined(__linux__)
#if !defined(MADV_COLLAPSE)
  constexpr int MADV_COLLAPSE = 25;  // since Linux 6.1
#endif
  // Page by page, the partial ones at both ends too: each may lie next to another matrix, and one that does not
  // belong to a single mapping is refused alone.
  const auto begin = reinterpret_cast<uintptr_t>(data);
  for (uintptr_t page = begin / kHugePage * kHugePage; page < begin + bytes; page += kHugePage)
    madvise(reinterpret_cast<void*>(page), kHugePage, MADV_COLLAPSE);
#else
  (void)data, (void)bytes;
#endif
}

}  // namespace csm
