module github.com/seed-0f2c7998/perdure/tools/publish

go 1.26.0

replace github.com/seed-0f2c7998/perdure v0.1.0 => ../..

require github.com/yuin/goldmark v1.8.7

require github.com/seed-0f2c7998/perdure v0.1.0
