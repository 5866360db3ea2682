// Direct buffers as C++ arrays: looked at where they lie, never copied.
#pragma once

#include <jni.h>

#include <cstddef>
#include <initializer_list>

#include "fedagg/types.h"

namespace fedagg::jni {

// The bytes of one argument; data is null where an optional one was not given.
struct View {
    void* data = nullptr;
    std::size_t bytes = 0;
    const char* name = "";

    template <class T>
    T* as() const {
        return static_cast<T*>(data);
    }
};

std::size_t count_of(jint value, const char* name);

// rows * classes, for arrays of elements that a ByteBuffer can hold. Throws ArgumentError beyond that.
std::size_t area_of(std::size_t rows, std::size_t classes);

// `count` elements of `size` bytes in `buffer` from byte `at` on. Throws ArgumentError, which names the argument, for
// null, a buffer that is not direct, one that is too short there, or an address that such elements cannot have.
View view(JNIEnv* env, jobject buffer, jint at, std::size_t count, std::size_t size, const char* name);

// The same, or an empty view for null.
View optional_view(JNIEnv* env, jobject buffer, jint at, std::size_t count, std::size_t size, const char* name);

// Throws ArgumentError if `out` shares memory with one of `inputs`.
void require_apart(const View& out, std::initializer_list<View> inputs);

// Logits as they were stored: their values and, for i8, their row scales.
struct LogitsView {
    Logits logits;
    View values, scale;
};

// `type`: 0 f32, 1 f16, 2 i8, the order of fedagg.bridge.kernels.LogitType.
LogitsView logits_view(JNIEnv* env, jobject values, jint at, jint type, jobject scale, jint scale_at, std::size_t rows,
                       std::size_t classes, const char* name);

}  // namespace fedagg::jni
