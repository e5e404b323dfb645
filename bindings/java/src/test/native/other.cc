// A library with a C++ runtime of its own, all of whose symbols are visible, as plugins often are.
#include <jni.h>

#include <locale>
#include <sstream>
#include <stdexcept>

extern "C" JNIEXPORT jstring JNICALL Java_finermoe_OtherRuntime_thrown(JNIEnv* env, jclass, jstring text) {
  const char* const chars = env->GetStringUTFChars(text, nullptr);
  std::ostringstream out;
  out.imbue(std::locale::classic());
  try {
    throw std::runtime_error(chars);
  } catch (const std::exception& error) {
    out << "caught " << error.what();
  }
  env->ReleaseStringUTFChars(text, chars);
  return env->NewStringUTF(out.str().c_str());
}
