package download_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

func ExampleFetch() {
	body := bytes.Repeat([]byte("bikes "), 50_000)
	server := httptestfault.New(func(n int, r *http.Request) httptestfault.Step {
		step := httptestfault.Entity{Body: body, ETag: `"v1"`}.Answer(r)
		if n == 1 {
			step = step.CutAt(100_000, httptestfault.FIN)
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
	file, err := os.Create(filepath.Join(dir, "partial"))
	if err != nil {
		fmt.Println(err)
		return
	}
	req, err := http.NewRequestWithContext(context.Background(), "GET", server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	quiet := httpretry.NewTransport(nil, httpretry.Options{OnResume: func(httpretry.Resumption) {}})

	var state download.State
	err = download.Fetch(req, file, &state, download.FetchOptions{Client: &http.Client{Transport: quiet}})
	fmt.Println(err, state.Bytes(), state.Complete())
	got, _ := io.ReadAll(io.NewSectionReader(file, 0, state.Size))
	fmt.Println(bytes.Equal(got, body), file.Close())
	// Output:
	// <nil> 300000 true
	// true <nil>
}
