package download_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

func ExampleFile() {
	body := bytes.Repeat([]byte("bikes "), 50_000)
	server := httptestfault.New(func(n int, r *http.Request) httptestfault.Response {
		step := httptestfault.Resource{Body: body, ETag: `"v1"`}.Respond(r)
		if n == 1 {
			step = step.With(httptestfault.CutBody(100_000))
		}
		return step
	})
	defer server.Close()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	req, err := http.NewRequestWithContext(context.Background(), "GET", server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := httpretry.Client(nil)
	client.Transport = httpretry.NewTransport(nil, httpretry.Options{OnResume: func(httpretry.Resumption) {}}) // without a log

	path := filepath.Join(dir, "stations.csv")
	result, err := download.File(req, path, download.Options{Client: client})
	fmt.Println(result.Bytes, result.Verified, err)
	got, err := os.ReadFile(path)
	fmt.Println(bytes.Equal(got, body), err)
	// Output:
	// 300000 size <nil>
	// true <nil>
}
