#!/bin/bash

# Parameters
#SBATCH --account=flat
#SBATCH --array=0-99%8
#SBATCH --constraint='nvlink&ib'
#SBATCH --cpus-per-task=16
#SBATCH --dependency=afterany:4711
#SBATCH --exclusive
#SBATCH --gres=gpu:a100:2
#SBATCH --job-name=steppe-20260102-030405-ab12.1
#SBATCH --mem=64G
#SBATCH --nice=100
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output='/STORE/slurm/20260102-030405-ab12/1/%A_%a_0_log.out'
#SBATCH --partition=gpu,preempt
#SBATCH --qos=long
#SBATCH --requeue
#SBATCH --signal=USR2@180
#SBATCH --time=480

# setup
module load cuda
source /opt/env.sh
export PYTHONPATH=/ROOT${PYTHONPATH:+:$PYTHONPATH}

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output '/STORE/slurm/20260102-030405-ab12/1/%A_%a_%t_log.out' --cpus-per-task=16 /PYTHON -u -P -m slurm.worker '/STORE/slurm/20260102-030405-ab12/1'
