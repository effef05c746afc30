package download

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/digest"
	"github.com/seed-0f2c7998/perdure/internal/validator"
)

// A Range is a part of an entity: the bytes from From up to, but not including, To.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// A State is how far a download has come, and of what: all that another process needs to go on. Keep it beside the
// partial file, as JSON. The zero State is that of a download which has not begun. It is not safe for concurrent use.
type State struct {
	ETag         string      `json:"etag,omitempty"`          // strong, or empty
	LastModified string      `json:"last_modified,omitempty"` // where there is no ETag, if it identifies the entity
	Size         int64       `json:"size"`                    // in bytes; meaningless without a validator, and at -1
	Done         []Range     `json:"done,omitempty"`          // what has been written: sorted, with gaps between
	Unverified   bool        `json:"unverified,omitempty"`    // it came whole, but a cut could not have been told from its end
	Digests      http.Header `json:"digests,omitempty"`       // the headers that offer digests of the whole
}

// Bytes returns how many bytes have been written.
func (s *State) Bytes() int64 {
	n := int64(0)
	for _, r := range s.Done {
		n += r.To - r.From
	}
	return n
}

// Complete reports whether everything has been written.
func (s *State) Complete() bool {
	return s.Size == 0 && s.validator() != "" || len(s.Done) == 1 && s.Done[0] == Range{0, s.Size}
}

// UnmarshalJSON also checks that the state can be one: a damaged file must not lead to a damaged download.
func (s *State) UnmarshalJSON(data []byte) error {
	type plain State
	var read plain
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	end := int64(-1)
	for _, r := range read.Done {
		if r.From <= end || r.To <= r.From || read.Size >= 0 && r.To > read.Size {
			return fmt.Errorf("download: state: done %+v: want ranges in order, with gaps between, within size %d", read.Done, read.Size)
		}
		end = r.To
	}
	if strings.HasPrefix(read.ETag, "W/") {
		return fmt.Errorf("download: state: etag %q: want a strong one, or none", read.ETag)
	}
	*s = State(read)
	return nil
}

// validator returns what If-Range can ask for; empty: nothing.
func (s *State) validator() string {
	if s.ETag != "" {
		return s.ETag
	}
	return s.LastModified
}

// resumable reports whether another request can go on where this one stops.
func (s *State) resumable() bool { return s.validator() != "" && s.Size >= 0 }

// add notes that r has been written.
func (s *State) add(r Range) {
	if r.To <= r.From {
		return
	}
	i, _ := slices.BinarySearchFunc(s.Done, r.From, func(have Range, from int64) int {
		if have.To < from {
			return -1
		}
		return 1
	})
	j := i
	for ; j < len(s.Done) && s.Done[j].From <= r.To; j++ {
		r = Range{min(r.From, s.Done[j].From), max(r.To, s.Done[j].To)}
	}
	s.Done = slices.Replace(s.Done, i, j, r)
}

// missing returns what has not been written, in parts of at most size bytes.
func (s *State) missing(size int64) []Range {
	var parts []Range
	from := int64(0)
	for _, done := range append(slices.Clone(s.Done), Range{s.Size, s.Size}) {
		for from < done.From {
			to := min(from+size, done.From)
			parts = append(parts, Range{from, to})
			from = to
		}
		from = done.To
	}
	return parts
}

// begin makes s the state of a download of res's entity, of which nothing is done.
func (s *State) begin(res *http.Response) {
	*s = State{Size: res.ContentLength, Digests: digestsOf(res.Header)}
	s.ETag, s.LastModified = validator.Of(res.Header)
}

// same reports whether res is of the entity of s.
func (s *State) same(res *http.Response) bool {
	if s.ETag != "" {
		return res.Header.Get("ETag") == s.ETag
	}
	return s.LastModified != "" && res.Header.Get("Last-Modified") == s.LastModified
}

// digestsOf returns the headers of h that offer a digest of the whole.
func digestsOf(h http.Header) http.Header {
	digests := http.Header{}
	for name, values := range h {
		if digest.Offers(name) {
			digests[name] = values
		}
	}
	if len(digests) == 0 {
		return nil
	}
	return digests
}
