//go:build integration && unix

package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/internal/versitygwtest"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// gatewayScene is a scene whose store is versitygw, in that region.
func gatewayScene(t *testing.T, region string) *scene {
	t.Helper()
	g := versitygwtest.Start(t, region, "bikes")
	s := newScene(t)
	s.store = s3test.Start(t, s3test.Options{Upstream: g.URL, AccessKey: g.Access, SecretKey: g.Secret})
	s.environ = append(s.environ, "AWS_ENDPOINT_URL="+s.store.URL, "AWS_ACCESS_KEY_ID="+g.Access, "AWS_SECRET_ACCESS_KEY="+g.Secret)
	return s
}

// Another's store that is in another region says so in its own way, and the copy
// goes there.
func TestGatewayInAnotherRegion(t *testing.T) {
	s := gatewayScene(t, "eu-west-1")
	from, down := s.from(t, "file", "large", mib20()), filepath.Join(s.dir, "down")
	s.runs(t, 0, from, "s3://bikes/large")
	s.runs(t, 0, "s3://bikes/large", "s3://bikes/twin")
	s.runs(t, 0, "s3://bikes/twin", down)
	s.runs(t, 0, "s3://bikes/twin", "-")
	many := t.TempDir()
	planted(t, many, map[string]string{".x.part": "1", ".x.part.json": "2", "sub/x y": "3", "ä": "4"})
	s.runs(t, 0, "-r", many, "s3://bikes/many")
	s.runs(t, 0, "-r", "s3://bikes/many", filepath.Join(s.dir, "many"))
	sameAs(t, "many", below(t, filepath.Join(s.dir, "many")), below(t, many))
	if got, err := os.ReadFile(down); err != nil || !bytes.Equal(got, mib20()) {
		t.Errorf("%d other bytes came down (%v)", len(got), err)
	}
}

// What an object is besides its bytes goes along in another's store, too.
func TestGatewayKeepsAttributes(t *testing.T) {
	for _, size := range []int{100, 17 << 20} {
		s := gatewayScene(t, "us-east-1")
		_, content := zipped(t, size)
		if _, err := s.client().PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String("bikes"), Key: aws.String("data.json"), Body: bytes.NewReader(content),
			ContentType: aws.String("application/json"), ContentEncoding: aws.String("gzip"), ContentLanguage: aws.String("de"),
			ContentDisposition: aws.String("attachment"), CacheControl: aws.String("max-age=60"),
			Metadata: map[string]string{"owner": "me"}, Tagging: aws.String("team=bikes"),
		}); err != nil {
			t.Fatal(err)
		}
		s.runs(t, 0, "s3://bikes/data.json", "s3://bikes/copy.json")
		if got, want := s.attributes(t, "copy.json"), s.attributes(t, "data.json"); !maps.Equal(got, want) {
			t.Errorf("%d bytes: attributes are\n%q, want\n%q", size, got, want)
		}
		s.runs(t, 0, "s3://bikes/copy.json", filepath.Join(s.dir, "copy"), "--checksum", sha(content))
	}
}
