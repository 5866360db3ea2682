package fedagg.bridge.identity;

import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.security.cert.CertificateEncodingException;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Certificates and keys between their DER and PEM forms. */
final class Pem {
  private static final Pattern BLOCK =
      Pattern.compile("-----BEGIN ([A-Z ]+)-----([A-Za-z0-9+/=\\s]*)-----END \\1-----");
  private static final int LONGEST = 65_536;

  private Pem() {}

  static List<X509Certificate> certificates(byte[] pem) throws IdentityException {
    List<X509Certificate> found = new ArrayList<>();
    for (byte[] der : blocks(pem, "CERTIFICATE")) {
      found.add(certificate(der));
    }
    if (found.isEmpty()) {
      throw new IdentityException("certificate: got " + pem.length + " bytes without one, expected PEM");
    }
    return found;
  }

  static X509Certificate certificate(byte[] der) throws IdentityException {
    try {
      return (X509Certificate)
          CertificateFactory.getInstance("X.509").generateCertificate(new ByteArrayInputStream(der));
    } catch (CertificateException error) {
      throw new IdentityException("certificate: not readable: " + error.getMessage(), error);
    }
  }

  static byte[] of(X509Certificate certificate) {
    return encode("CERTIFICATE", der(certificate));
  }

  static byte[] der(X509Certificate certificate) {
    try {
      return certificate.getEncoded();
    } catch (CertificateEncodingException error) {
      throw new AssertionError("a certificate that was read can be written", error);
    }
  }

  static byte[] encode(String kind, byte[] der) {
    String body = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der);
    return ("-----BEGIN " + kind + "-----\n" + body + "\n-----END " + kind + "-----\n")
        .getBytes(StandardCharsets.US_ASCII);
  }

  static List<byte[]> blocks(byte[] pem, String kind) throws IdentityException {
    if (pem.length > LONGEST) {
      throw new IdentityException("PEM: got " + pem.length + " bytes, expected at most " + LONGEST);
    }
    List<byte[]> found = new ArrayList<>();
    Matcher block = BLOCK.matcher(new String(pem, StandardCharsets.US_ASCII));
    while (block.find()) {
      if (block.group(1).equals(kind)) {
        try {
          found.add(Base64.getMimeDecoder().decode(block.group(2)));
        } catch (IllegalArgumentException error) {
          throw new IdentityException("PEM: got a damaged " + kind, error);
        }
      }
    }
    return found;
  }
}
