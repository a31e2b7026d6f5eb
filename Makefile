.PHONY: proto
proto:
	uv run -q --no-project --isolated --python .venv/bin/python --with 'grpcio-tools==1.62.3' --with 'setuptools<81' \
	  python -m grpc_tools.protoc -Itfx_cassandra/proto=proto --python_out=.tfx-cassandra/proto --pyi_out=.tfx-cassandra/proto tfx_cassandra/proto/cassandra.proto
