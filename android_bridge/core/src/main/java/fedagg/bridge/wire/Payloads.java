package fedagg.bridge.wire;

import fedagg.bridge.wire.Messages.Limits;
import fedagg.bridge.wire.Messages.Payload;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;

/** Bytes into payloads and back: inside a message if short, else in chunks named by their SHA-256. */
final class Payloads {
  private Payloads() {}

  static Payload of(byte[] data, Limits limits) {
    if (data.length <= limits.inline) {
      return new Payload(data.length, Digests.of(data), data, Collections.<byte[]>emptyList());
    }
    List<byte[]> chunks = new ArrayList<>();
    for (int at = 0; at < data.length; at += (int) limits.chunk) {
      chunks.add(Digests.of(chunk(data, at / (int) limits.chunk, limits)));
    }
    return new Payload(data.length, Digests.of(data), new byte[0], chunks);
  }

  static byte[] chunk(byte[] data, int number, Limits limits) {
    int size = (int) limits.chunk;
    return Arrays.copyOfRange(data, number * size, Math.min(data.length, (number + 1) * size));
  }

  /** Refuses a payload over {@code most} bytes, or one whose parts cannot add up to its size. */
  static void check(String field, Payload payload, Limits limits, long most) throws ProtocolException {
    if (payload.size > most) {
      throw new ProtocolException(field + ": got " + payload.size + " bytes, expected at most " + most);
    }
    boolean isInline = payload.inline.length > 0 || payload.size == 0;
    long chunks = isInline ? 0 : (payload.size + limits.chunk - 1) / limits.chunk;
    if (payload.inline.length != (isInline ? payload.size : 0) || payload.chunks.size() != chunks) {
      throw new ProtocolException(
          field + ": got " + payload.inline.length + " bytes inline and " + payload.chunks.size()
              + " chunks, expected " + payload.size + " bytes in one of the two");
    }
  }

  /** The bytes of a payload that came inline. */
  static byte[] inlined(String field, Payload payload) throws ProtocolException {
    if (!Arrays.equals(Digests.of(payload.inline), payload.digest)) {
      throw new ProtocolException(field + ": got " + payload.inline.length + " bytes of another digest");
    }
    return payload.inline;
  }
}
