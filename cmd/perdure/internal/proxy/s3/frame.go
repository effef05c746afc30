package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	chunkSize     = 64 << 10 // bytes of a chunk to the store; S3 wants 8 KiB or more
	signatureSize = len(";chunk-signature=") + 64
)

// A frame encodes a body as aws-chunked, with the signatures of one attempt.
type frame struct {
	call   *call
	source io.ReadCloser // the decoded body
	signed bool
	left   int64 // bytes of the decoded body

	key            []byte
	head, previous string // see chunks

	out  bytes.Buffer
	data []byte
	done bool
}

func newFrame(c *call, body io.ReadCloser) *frame {
	if body == nil {
		body = io.NopCloser(bytes.NewReader(nil))
	}
	return &frame{call: c, source: body, signed: c.payload != streamUnsignedTrailer, left: c.length}
}

// total returns the number of bytes of the encoded body.
func (f *frame) total() int64 {
	n := f.left / chunkSize * f.chunkLength(chunkSize)
	if rest := f.left % chunkSize; rest > 0 {
		n += f.chunkLength(rest)
	}
	n += f.chunkLength(0) // with the empty line at the end
	if f.call.trailer == "" {
		return n
	}
	digest := newChecksum(f.call.trailer).Size()
	n += int64(len(f.call.trailer) + len(":\r\n") + (digest+2)/3*4)
	if f.signed {
		n += int64(len(trailerSignature) + len(":\r\n") + 64)
	}
	return n
}

func (f *frame) chunkLength(size int64) int64 {
	n := int64(len(strconv.FormatInt(size, 16))) + size + int64(len("\r\n\r\n"))
	if f.signed {
		n += int64(signatureSize)
	}
	return n
}

// Read reads the encoded body.
func (f *frame) Read(p []byte) (int, error) {
	for f.out.Len() == 0 {
		if f.done {
			return 0, io.EOF
		}
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	return f.out.Read(p)
}

// fill encodes the next chunk.
func (f *frame) fill() error {
	if f.data == nil {
		f.data = make([]byte, min(chunkSize, max(f.left, 1)))
	}
	if f.left > 0 {
		data := f.data[:min(int64(len(f.data)), f.left)]
		if _, err := io.ReadFull(f.source, data); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
		f.left -= int64(len(data))
		f.chunk(data)
		f.out.WriteString("\r\n")
		return nil
	}
	if _, err := io.ReadFull(f.source, f.data[:1]); !errors.Is(err, io.EOF) { // the end: the body has been checked
		if err == nil {
			err = errTooLong
		}
		return err
	}
	f.done = true
	f.chunk(nil)
	if f.call.trailer != "" {
		value := f.call.checksum.Load()
		if value == nil {
			return errNoTrailer
		}
		fmt.Fprintf(&f.out, "%s:%s\r\n", f.call.trailer, *value)
		if f.signed {
			fmt.Fprintf(&f.out, "%s:%s\r\n", trailerSignature, f.nextSignature("-TRAILER", "\n"+hexOf([]byte(f.call.trailer+":"+*value+"\n"))))
		}
	}
	f.out.WriteString("\r\n")
	return nil
}

var (
	errTooLong   = errors.New("s3: the body is longer than its length")
	errNoTrailer = errors.New("s3: the body has ended before its trailer")
)

// chunk encodes a chunk without the line break at its end.
func (f *frame) chunk(data []byte) {
	fmt.Fprintf(&f.out, "%x", len(data))
	if f.signed {
		fmt.Fprintf(&f.out, ";chunk-signature=%s", f.nextSignature("-PAYLOAD", "\n"+hexOf(nil)+"\n"+hexOf(data)))
	}
	f.out.WriteString("\r\n")
	f.out.Write(data)
}

// Close closes the body.
func (f *frame) Close() error { return f.source.Close() }
