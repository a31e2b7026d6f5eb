"""Stores that all workers reach, started on this machine: S3's interface, and HDFS."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib import request

import engine_parts
from engine_jvms import HOST, Jvms, answers, free_port, wait


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[list[str]]:
    """Runs a server of S3's interface with the bucket `spool`; yields the pipeline options that it takes."""
    port = free_port()
    with (folder / 's3.log').open('wb') as log:
        server = subprocess.Popen([engine_parts.moto(), '-H', HOST, '-p', str(port)], stdout=log, stderr=log)
    try:
        wait(lambda: answers(port), 's3')
        request.urlopen(request.Request(f'http://{HOST}:{port}/spool', method='PUT'), timeout=30).close()
        yield [
            f'--s3_endpoint_url=http://{HOST}:{port}', '--s3_access_key_id=a', '--s3_secret_access_key=b',
            '--s3_region_name=us-east-1',
        ]  # fmt: skip
    finally:
        server.terminate()
        server.wait(20)


@contextlib.contextmanager
def hdfs(folder: Path) -> Iterator[list[str]]:
    """Runs a name node and a data node; yields the pipeline options of their web interface."""
    jvms = Jvms(folder, engine_parts.jars('hdfs'), folder)
    for site in ('hdfs', 'datanode'):  # their pages, which the jars lack
        (folder / 'webapps' / site / 'WEB-INF').mkdir(parents=True)
        (folder / 'webapps' / site / 'WEB-INF' / 'web.xml').write_text('<web-app/>')
    rpc, web, data = free_port(), free_port(), free_port()
    settings = {
        'fs.defaultFS': f'hdfs://{HOST}:{rpc}', 'dfs.replication': 1, 'dfs.permissions.enabled': 'false',
        'dfs.namenode.http-address': f'{HOST}:{web}', 'dfs.namenode.name.dir': folder / 'names',
        'dfs.datanode.address': f'{HOST}:{free_port()}', 'dfs.datanode.http.address': f'{HOST}:{data}',
        'dfs.datanode.ipc.address': f'{HOST}:{free_port()}', 'dfs.datanode.data.dir': folder / 'blocks',
        'dfs.datanode.hostname': HOST, 'dfs.namenode.datanode.registration.ip-hostname-check': 'false',
    }  # fmt: skip
    given = [word for name, value in settings.items() for word in ('-D', f'{name}={value}')]
    name_node = 'org.apache.hadoop.hdfs.server.namenode.NameNode'
    try:
        jvms.run('format', name_node, [*given, '-format', '-nonInteractive'])
        jvms.start('name-node', name_node, given, web, '256m')
        jvms.start('data-node', 'org.apache.hadoop.hdfs.server.datanode.DataNode', given, data, '256m')
        status = f'http://{HOST}:{web}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState'
        wait(lambda: b'"NumLiveDataNodes" : 1' in request.urlopen(status, timeout=30).read(), 'the data node')
        yield [f'--hdfs_host={HOST}', f'--hdfs_port={web}', '--hdfs_user=beam']
    finally:
        jvms.stop()
