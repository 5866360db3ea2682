package fedagg.bridge.identity;

import fedagg.bridge.wire.Digests;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Base64;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A one-time enrolment token, fedagg1.&lt;id&gt;.&lt;secret&gt;.&lt;digest of the authority&gt; (docs/identity.md). */
public final class Token {
  private static final Pattern FORM =
      Pattern.compile("fedagg1\\.([A-Za-z0-9_-]{11})\\.([A-Za-z0-9_-]{43})\\.([A-Za-z0-9_-]{43})");

  /** May be logged; nothing else of a token may. */
  public final String id;

  private final String text;
  private final byte[] authority;

  private Token(String id, String text, byte[] authority) {
    this.id = id;
    this.text = text;
    this.authority = authority;
  }

  public static Token parse(String text) throws IdentityException {
    Matcher found = FORM.matcher(text.trim());
    if (!found.matches()) {
      throw new IdentityException(
          "enrolment token: got " + text.length()
              + " characters, expected 107 of the form fedagg1.<id>.<secret>.<authority>; copy it whole");
    }
    byte[] authority = Base64.getUrlDecoder().decode(found.group(3));
    if (!Base64.getUrlEncoder().withoutPadding().encodeToString(authority).equals(found.group(3))) {
      throw new IdentityException("enrolment token: its last part is damaged; copy it whole");
    }
    return new Token(found.group(1), found.group(), authority);
  }

  /** SHA-256 of the federation's root certificate. */
  byte[] authority() {
    return authority.clone();
  }

  String text() {
    return text;
  }

  /** What a server keeps of it. */
  public byte[] digest() {
    MessageDigest digest = Digests.sha256();
    digest.update("fedagg/token/1\n".getBytes(StandardCharsets.US_ASCII));
    return digest.digest(text.getBytes(StandardCharsets.US_ASCII));
  }

  /** The id alone. */
  @Override
  public String toString() {
    return "Token(" + id + ")";
  }
}
