package objects_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// A contexts client keeps the contexts of its requests.
type contexts struct {
	*awshttp.BuildableClient

	mu  sync.Mutex
	all []context.Context
}

func (c *contexts) Do(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.all = append(c.all, req.Context())
	c.mu.Unlock()
	return c.BuildableClient.Do(req)
}

// A failure ends the other requests of its object, and is the cause of none: net/http could end a request of another object
// with that cause, on a connection that it believed to be idle.
func TestAFailureIsTheCauseOfNoOtherRequest(t *testing.T) {
	big := content(1, 12*mib)
	for name, row := range map[string]struct {
		refused string // but for the first request, which the others follow
		first   s3test.Fault
		call    func(*objects.Store) error
	}{
		"put": {"UploadPart", s3test.Fault{}, func(s *objects.Store) error {
			_, err := s.Put(t.Context(), bucket, "k", bytes.NewReader(big), objects.PutOptions{})
			return err
		}},
		"copy": {"UploadPartCopy", s3test.Fault{}, func(s *objects.Store) error {
			s.SetCopyLimit(5 * mib)
			_, err := s.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "big"}, objects.Address{Bucket: bucket, Key: "k"})
			return err
		}},
		"get": {"GetObject", s3test.StallBody(mib, time.Minute), func(s *objects.Store) error {
			_, err := s.GetFile(t.Context(), bucket, "big", filepath.Join(t.TempDir(), "big"), objects.GetOptions{})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, s3test.Options{})
			if err := server.Store(bucket, "big", big); err != nil {
				t.Fatal(err)
			}
			var got atomic.Int32
			server.SetScript(func(r s3test.Request) s3test.Fault {
				if r.Operation != row.refused {
					return s3test.Fault{}
				}
				if got.Add(1) == 1 {
					return row.first
				}
				return s3test.AccessDenied()
			})
			client := &contexts{BuildableClient: awshttp.NewBuildableClient()}
			config := configFor(server)
			config.HTTPClient = client
			store, err := objects.New(config, objects.Options{Policy: quick(), PartSize: 5 * mib})
			if err != nil {
				t.Fatal(err)
			}
			failure := row.call(store)
			if failure == nil {
				t.Fatal("no error")
			}
			ended := 0
			for _, ctx := range client.all {
				switch cause := context.Cause(ctx); {
				case cause == nil:
				case errors.Is(cause, context.Canceled):
					ended++
				default:
					t.Errorf("a request has ended with %v", cause)
				}
			}
			if ended == 0 {
				t.Errorf("no request was ended: %v", failure)
			}
		})
	}
}
