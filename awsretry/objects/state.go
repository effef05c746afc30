package objects

import (
	"context"
	"fmt"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/journal"
)

// A State is what the file says that [PutOptions] or [GetOptions] name.
type State struct {
	Endpoint, Bucket, Key string

	Upload string // the ID of the upload; "" is a download
	Size   int64  // bytes of all; 0 or less: not known
	Bytes  int64  // in the parts that are done
}

// ReadState reads a state file. That there is none is no error: nothing is
// remembered, and the State is zero.
func ReadState(path string) (State, error) {
	j, err := journal.Open(path)
	if err != nil {
		return State{}, fmt.Errorf("state: %w", err)
	}
	h := j.Head
	s := State{Endpoint: h.Endpoint, Bucket: h.Bucket, Key: h.Key, Upload: h.Upload, Size: h.Size}
	for _, p := range j.Parts {
		s.Bytes += p.Size
	}
	return s, nil
}

// recall opens a state file for an upload or a download of that object. One of
// something else stays as it is.
func (s *Store) recall(path, bucket, key string, upload bool) (*journal.Journal, error) {
	j, err := journal.Open(path)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	h := j.Head
	if h.Format != "" && ((h.Upload != "") != upload || h.Bucket != bucket || h.Key != key || h.Endpoint != s.endpoint) {
		return nil, fmt.Errorf("state: %s is of another transfer, of s3://%s/%s at %q: remove it, or give this one another", path, h.Bucket, h.Key, h.Endpoint)
	}
	return j, nil
}

// Abandon drops the upload that a state file remembers, with its parts in the
// store, and removes the file. The file stays if the store can't be told. That
// there is none, or none of an upload to this endpoint, is no error.
func (s *Store) Abandon(ctx context.Context, path string) error {
	j, err := journal.Open(path)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	h := j.Head
	if h.Upload == "" || h.Endpoint != s.endpoint {
		return nil
	}
	u := &upload{store: s, bucket: h.Bucket, key: h.Key}
	if err := (&multipart{upload: u, id: h.Upload}).abort(ctx, nil); err != nil {
		return wrap("abandon", h.Bucket, h.Key, err)
	}
	j.Remove()
	return nil
}
