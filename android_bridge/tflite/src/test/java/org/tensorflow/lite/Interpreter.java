package org.tensorflow.lite;

import java.nio.ByteBuffer;
import java.util.Map;

/**
 * Not TensorFlow's class: its public shape, as far as TfliteTrainer and the sample use it, written from the documentation, so
 * that they compile and are tested where the library is not to be had. It runs nothing; tests extend it. The real one is final.
 */
public class Interpreter implements AutoCloseable {
  protected Interpreter() {}

  public Interpreter(ByteBuffer model) {
    throw new UnsupportedOperationException("there is no TensorFlow Lite here");
  }

  public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signatureKey) {
    throw new UnsupportedOperationException("there is no TensorFlow Lite here");
  }

  @Override
  public void close() {}
}
