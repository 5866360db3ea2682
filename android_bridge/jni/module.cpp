// libfedagg_jni: the table of contents. Methods are registered by name here, so none is exported.
#include "errors.h"
#include "natives.h"

namespace {

namespace j = fedagg::jni;

#define BUFFER "Ljava/nio/ByteBuffer;"
#define PLACED BUFFER "I"  // a buffer and the byte that its elements begin at

template <class Function>
JNINativeMethod method(const char* name, const char* signature, Function* function) {
    // JNI's struct predates const
    return {const_cast<char*>(name), const_cast<char*>(signature), reinterpret_cast<void*>(function)};
}

const JNINativeMethod table[] = {
    method("open", "(I)J", j::open),
    method("close", "(J)V", j::close),
    method("availableIsas", "()[Ljava/lang/String;", j::available_isas),
    method("activeIsa", "()Ljava/lang/String;", j::active_isa),
    method("setActiveIsa", "(Ljava/lang/String;)V", j::set_active_isa),
    method("distill", "(JII" PLACED PLACED "I" PLACED PLACED PLACED PLACED PLACED "DDDDZ[D)V", j::distill),
    method("aggregate", "(JII[" BUFFER "[" BUFFER "[I" PLACED PLACED PLACED "ID" PLACED ")V", j::aggregate),
    method("confidence", "(JII" PLACED "I" PLACED PLACED ")V", j::confidence),
    method("toF16", "(I" PLACED PLACED ")V", j::to_f16),
    method("fromF16", "(I" PLACED PLACED ")V", j::from_f16),
    method("quantise", "(II" PLACED PLACED PLACED ")V", j::quantise),
    method("dequantise", "(II" PLACED PLACED PLACED ")V", j::dequantise),
    method("encodeAffine", "(II" PLACED PLACED PLACED PLACED PLACED ")V", j::encode_affine),
    method("decodeAffine", "(II" PLACED PLACED PLACED PLACED ")V", j::decode_affine),
    method("packedBytes", "(I" PLACED ")I", j::packed_bytes),
    method("packBits", "(II" PLACED PLACED PLACED ")V", j::pack_bits),
    method("unpackBits", "(II" PLACED PLACED PLACED ")V", j::unpack_bits),
    method("encodeTopK", "(III" PLACED PLACED PLACED PLACED ")V", j::encode_top_k),
    method("decodeTopK", "(III" PLACED PLACED PLACED PLACED ")V", j::decode_top_k),
    method("sgdStep", "(I" PLACED PLACED PLACED "FFFZ)V", j::sgd_step),
};

}  // namespace

extern "C" JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM* machine, void*) {
    void* found = nullptr;
    if (machine->GetEnv(&found, JNI_VERSION_1_6) != JNI_OK) return JNI_ERR;
    auto* const env = static_cast<JNIEnv*>(found);
    if (!j::load_exception(env)) return JNI_ERR;
    jclass const natives = env->FindClass("fedagg/bridge/kernels/Native");
    if (natives == nullptr) return JNI_ERR;
    const auto count = static_cast<jint>(sizeof(table) / sizeof(table[0]));
    const bool registered = env->RegisterNatives(natives, table, count) == JNI_OK;
    env->DeleteLocalRef(natives);
    return registered ? JNI_VERSION_1_6 : JNI_ERR;
}
