// What Python calls. No exception leaves it.

#include <exception>

#include "decoder.h"

extern "C" {

// For Python to compare with its own idea of the structure.
int64_t mimi_description_size() { return sizeof(mimi::DecoderDescription); }

// Null where memory or threads could not be had. What the description points to is copied.
void* mimi_create(const mimi::DecoderDescription* description, int64_t num_slots, int num_threads) {
  try {
    return new mimi::Decoder(*description, num_slots, num_threads);
  } catch (const std::exception&) {
    return nullptr;
  }
}

int64_t mimi_frame_samples(void* decoder) { return static_cast<mimi::Decoder*>(decoder)->frame_samples(); }

void mimi_reset(void* decoder, int64_t slot) { static_cast<mimi::Decoder*>(decoder)->reset(slot); }

void mimi_decode(void* decoder, int64_t num_streams, const int64_t* slots, const int64_t* num_frames,
                 const int64_t* codes, int16_t* samples) {
  static_cast<mimi::Decoder*>(decoder)->decode(num_streams, slots, num_frames, codes, samples);
}

void mimi_destroy(void* decoder) { delete static_cast<mimi::Decoder*>(decoder); }

}  // extern "C"
