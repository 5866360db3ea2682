package fedagg.bridge.identity;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** Reads an X.501 name from its DER: one attribute a part, in order. Android has no public class that keeps the order. */
final class DistinguishedName {
  private final byte[] der;
  private int at;

  private DistinguishedName(byte[] der) {
    this.der = der;
  }

  /** "O=f", "OU=device", ... in the order of the certificate; an attribute that is not known has its numbers as name. */
  static List<String> read(byte[] der) throws IdentityException {
    try {
      return new DistinguishedName(der).parts();
    } catch (IndexOutOfBoundsException error) {
      throw new IdentityException("certificate: a name that ends too early", error);
    }
  }

  private List<String> parts() throws IdentityException {
    int end = enter(0x30);
    List<String> found = new ArrayList<>();
    while (at < end) {
      int set = enter(0x31);
      int pair = enter(0x30);
      if (pair != set) {
        throw new IdentityException("certificate: a name with several values in one place");
      }
      int oidEnd = enter(0x06);
      String name = name(oidEnd);
      int tag = der[at] & 0xff;
      int valueEnd = enter(tag);
      found.add(name + "=" + new String(der, at, valueEnd - at, StandardCharsets.UTF_8));
      at = valueEnd;
      if (at != pair) {
        throw new IdentityException("certificate: a name with bytes behind a value");
      }
    }
    return found;
  }

  /** Steps into an element; where it ends. */
  private int enter(int tag) throws IdentityException {
    if ((der[at] & 0xff) != tag) {
      throw new IdentityException("certificate: a name that is not one");
    }
    int length = der[at + 1] & 0xff;
    at += 2;
    if (length >= 0x80) {
      int bytes = length & 0x7f;
      length = 0;
      for (int i = 0; i < bytes; i++) {
        length = length << 8 | der[at++] & 0xff;
      }
      if (bytes > 2) {
        throw new IdentityException("certificate: a name that is too long");
      }
    }
    if (length > der.length - at) {
      throw new IdentityException("certificate: a name that ends too early");
    }
    return at + length;
  }

  private String name(int end) {
    boolean known = end - at == 3 && der[at] == 0x55 && der[at + 1] == 4; // 2.5.4.x
    int last = der[at + 2];
    at = end;
    if (known) {
      switch (last) {
        case 3:
          return "CN";
        case 5:
          return "serialNumber";
        case 10:
          return "O";
        case 11:
          return "OU";
        default:
          break;
      }
    }
    return "?";
  }
}
