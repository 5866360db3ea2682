#include "errors.h"

namespace fedagg::jni {
namespace {

jclass exception_class = nullptr;  // a global reference, for as long as the library is loaded

}  // namespace

bool load_exception(JNIEnv* env) {
    jclass const found = env->FindClass("fedagg/bridge/kernels/KernelException");
    if (found == nullptr) return false;
    exception_class = static_cast<jclass>(env->NewGlobalRef(found));
    env->DeleteLocalRef(found);
    return exception_class != nullptr;
}

void throw_exception(JNIEnv* env, const char* message) {
    if (env->ExceptionCheck() == JNI_FALSE) env->ThrowNew(exception_class, message);
}

}  // namespace fedagg::jni
