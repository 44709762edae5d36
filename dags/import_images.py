"""import_images: bring in a folder, an archive or an S3 prefix. Started by hand, with a form."""

from airflow.sdk import DAG, Param

from operators.imports import ImportOperator
from wiring import CATALOG, DEFAULT_ARGS

with DAG(
    "import_images",
    description="Bring in a folder, an archive or an S3 prefix",
    doc_md=__doc__,
    schedule=None,
    default_args=DEFAULT_ARGS,
    render_template_as_native_obj=True,
    params={
        "source": Param(
            "s3://images/",
            type="string",
            minLength=1,
            title="Source",
            description="A folder or a zip or tar archive on the Airflow worker, or s3://bucket/prefix",
        ),
        "label": Param(
            None, type=["null", "string"], title="Label", description="For all images, beside the name of their folder"
        ),
        "owner": Param(None, type=["null", "string"], title="Owner"),
        "limit": Param(None, type=["null", "integer"], minimum=1, title="Limit", description="Most images to bring in"),
    },
    tags=["sleeve"],
):
    ImportOperator(
        task_id="import",
        source="{{ params.source }}",
        image_label="{{ params.label }}",
        image_owner="{{ params.owner }}",
        limit="{{ params.limit }}",
        outlets=[CATALOG],
    )
