// What Python calls. No exception leaves it.

#include <exception>

#include "bandwidth.h"
#include "frame.h"

extern "C" {

// For Python to compare with its own idea of the structure.
int64_t csm_description_size() { return sizeof(csm::FrameDescription); }

// Null where memory or threads could not be had. What the description points to must outlive the frame; the
// descriptions themselves need not.
void* csm_frame_create(const csm::FrameDescription* description, int num_threads) {
  try {
    return new csm::Frame(*description, num_threads);
  } catch (const std::exception&) {
    return nullptr;
  }
}

void csm_frame_step(void* frame, int num_rows, int64_t* codes) { static_cast<csm::Frame*>(frame)->step(num_rows, codes); }

void csm_frame_destroy(void* frame) { delete static_cast<csm::Frame*>(frame); }

// Zero where memory or threads could not be had.
double csm_read_bandwidth(int num_threads, int64_t bytes, int repeats) {
  try {
    return csm::read_bandwidth(num_threads, bytes, repeats);
  } catch (const std::exception&) {
    return 0;
  }
}

}  // extern "C"
