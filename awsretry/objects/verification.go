package objects

// A Verification is what the bytes of a transfer were compared by. That of a checksum is its name, and it is over every
// byte. An object that was stored in parts may have only a checksum of those of its parts, which is over every byte as
// well: its name is then followed by " of parts", as in "crc32 of parts".
type Verification string

// The verifications. Others are checksums as well.
const (
	NotVerified      Verification = ""      // nothing was transferred
	VerifiedBySize   Verification = "size"  // the store has no checksum, and no ETag that is one
	VerifiedByETag   Verification = "etag"  // the ETag of a copy is that of its original
	VerifiedByParts  Verification = "parts" // the store has confirmed the checksum of each part of an upload
	VerifiedByCRC32  Verification = "crc32" // the checksum that each upload has
	VerifiedByCRC32C Verification = "crc32c"
	VerifiedByCRC64  Verification = "crc64nvme"
	VerifiedByMD5    Verification = "md5" // as an ETag is, of an object that is not encrypted
	VerifiedBySHA1   Verification = "sha1"
	VerifiedBySHA256 Verification = "sha256"
)
