// The one exception class that every failure below becomes.
#pragma once

#include <jni.h>

#include <exception>
#include <new>
#include <utility>

namespace fedagg::jni {

// Finds and keeps fedagg.bridge.kernels.KernelException; false, with a Java exception pending, if it is not there.
bool load_exception(JNIEnv* env);

// Makes a KernelException pending, unless something is pending already.
void throw_exception(JNIEnv* env, const char* message);

// Runs `body`; what it throws becomes a KernelException, and the value is then `failed`, which Java never sees.
template <class Value, class Body>
Value guarded(JNIEnv* env, Value failed, Body&& body) {
    try {
        return std::forward<Body>(body)();
    } catch (const std::bad_alloc&) {
        throw_exception(env, "out of memory in the core");
    } catch (const std::exception& error) {
        throw_exception(env, error.what());
    } catch (...) {
        throw_exception(env, "an unknown error in the core");
    }
    return failed;
}

template <class Body>
void guarded(JNIEnv* env, Body&& body) {
    guarded(env, 0, [&] {
        std::forward<Body>(body)();
        return 0;
    });
}

}  // namespace fedagg::jni
