package org.tensorflow.lite;

import java.util.Map;

/**
 * Not TensorFlow's class: its public shape, as far as TfliteTrainer uses it, written from the documentation, so that the
 * adapter compiles and is tested where the library is not to be had. The real one is final.
 */
public abstract class Interpreter implements AutoCloseable {
  public abstract void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signatureKey);

  @Override
  public abstract void close();
}
