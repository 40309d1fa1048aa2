// What Python calls. No exception leaves it.

#include <exception>

#include "frame.h"
#include "multiply.h"

extern "C" {

// For Python to compare with its own idea of the structure.
int64_t csm_description_size() { return sizeof(csm::FrameDescription); }

// Of the vectors that were compiled in.
const char* csm_instruction_set() { return csm::kInstructionSet; }

// Null where memory or threads could not be had. What the description points to must outlive the frame; the
// descriptions themselves need not.
void* csm_frame_create(const csm::FrameDescription* description, int num_threads) {
  try {
    return new csm::Frame(*description, num_threads);
  } catch (const std::exception&) {
    return nullptr;
  }
}

// What `adapters` [num_rows] points to must outlive the steps until the next call.
bool csm_frame_set_adapters(void* frame, int num_rows, const csm::AdapterDescription* const* adapters) {
  try {
    static_cast<csm::Frame*>(frame)->set_adapters(num_rows, adapters);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

void csm_frame_step(void* frame, int num_rows, int64_t* codes) {
  static_cast<csm::Frame*>(frame)->step(num_rows, codes);
}

void csm_frame_destroy(void* frame) { delete static_cast<csm::Frame*>(frame); }

// Null where threads could not be had.
void* csm_multiplier_create(int num_threads) {
  try {
    return new csm::Multiplier(num_threads);
  } catch (const std::exception&) {
    return nullptr;
  }
}

// `inputs` [num_rows, cols] to `outputs` [num_rows, rows]; false where memory could not be had.
bool csm_multiply(void* multiplier, const csm::Matrix* matrix, const float* inputs, int num_rows, float* outputs) {
  try {
    static_cast<csm::Multiplier*>(multiplier)->run(*matrix, inputs, num_rows, outputs);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

void csm_multiplier_destroy(void* multiplier) { delete static_cast<csm::Multiplier*>(multiplier); }

}  // extern "C"
